"""A storage task that comes again: right rows are left alone, wrong ones are written anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from embedfleet.bootstrap import open_guest
from embedfleet.clock import ManualClock
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import Stage, StorageTask, pack_chunk_ids
from embedfleet.records import batches, chunks, generations, job_completion, jobs
from embedfleet.records.batches import Batch
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.job_completion import JobEnd
from embedfleet.settings import PoolsSettings, Settings, VectorStoreSettings
from embedfleet.sql import document_lock, tables
from embedfleet.vectors.checksums import checksums_of
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import CollectionKey, VectorRows
from embedfleet.workers.services import Services
from embedfleet.workers.storage_worker import StorageLoop
from support.system import TENANT, all_at_the_end

CHUNK = "ab" * 16
DIM = 64


class CountingStore(ChromaVectorStore):
    """Remembers which ids were written."""

    written: list[str]

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self.written += rows.ids
        await super().upsert(collection, rows)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[CountingStore]:
    store = await CountingStore.open(chroma_directory(settings.data_dir))
    store.written = []
    yield store
    await store.close()


def unit(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


async def store_again(
    settings: Settings, store: CountingStore, there: NDArray[np.float32], arriving: NDArray[np.float32]
) -> tuple[Sequence[str], bytes | None, bytes]:
    """Redeliver the one chunk's vector when another process has written `there` already: (ids written, the
    checksum in SQL, that of what the store holds)."""
    async with open_guest(settings) as guest:
        job_id = await guest.jobs.create_job(media_id="1", user_id=TENANT, content="words")
        job = await guest.database.read(lambda conn: jobs.get(conn, job_id))
        assert job is not None

        def chunked(conn: Connection) -> None:
            document_lock.lock(conn, [job.document_id])
            row = ChunkRow(0, CHUNK, 0, 5, 1, "")
            chunks.add(conn, [(job.document_id, job.generation_id, [row])])
            batches.add(conn, {job_id: [Batch(0, 0, 1)]})
            job_completion.seal(conn, [JobEnd(job_id, 1, 1.0)], now=1.0)

        await guest.database.write(chunked)
        generation = await guest.database.read(lambda conn: generations.generation(conn, job.generation_id))
        assert generation is not None
        collection = generation.collection
        await store.ensure_collection(collection)
        await store.upsert(collection, VectorRows([CHUNK], there[None], [{"x": 1}], None))
        store.written.clear()
        services = Services(MemoryBroker(), guest.database, Metrics(), ManualClock(), PoolsSettings())
        loop = StorageLoop("s", services, store=store, settings=VectorStoreSettings(store_documents=False))
        message = StorageTask(
            tenant=TENANT,
            job_id=job_id,
            ordinal=0,
            space=collection.space,
            dim=DIM,
            chunk_ids=pack_chunk_ids([CHUNK]),
            vectors=arriving.astype("<f4").tobytes(),
        )
        assert await loop.process([await redelivered(job_id, job.run, message)], all_at_the_end) == {}
        query = select(tables.vectors.c.checksum)
        recorded = await guest.database.read(lambda conn: conn.execute(query).scalar_one())
    held = checksums_of(*await store.vectors(collection, [CHUNK]))
    return store.written, recorded, held[CHUNK]


async def redelivered(job_id: str, run: int, message: StorageTask) -> Lease:
    broker = MemoryBroker(clock=(clock := ManualClock()))
    await broker.enqueue(Stage.STORAGE, [Task(f"{job_id}:{run}:0", TENANT, job_id, 1, message.encode())])
    for _ in range(2):
        (lease,) = await broker.claim(Stage.STORAGE, worker="w", max_tasks=1, max_cost=1, lease_seconds=1)
        clock.advance(2)
        await broker.reap_expired(Stage.STORAGE)
    assert lease.attempt == 2
    return lease


async def test_a_row_that_differs_by_rounding_is_left_alone(settings: Settings, store: CountingStore) -> None:
    rounded = unit(1) * np.float32(1 + 1e-4) + np.float32(1e-5)
    written, recorded, held = await store_again(settings, store, unit(1), rounded)
    assert written == []
    assert recorded == held, "the checksum is of what is there, not of what arrived"


async def test_a_row_with_another_vector_is_written_anew(settings: Settings, store: CountingStore) -> None:
    written, recorded, held = await store_again(settings, store, unit(2), unit(1))
    assert written == [CHUNK]
    assert recorded == held
