"""What a storage worker writes for a run of a job that is over by then: never counted, never believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, update

from embedfleet.clock import ManualClock
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.lifecycle import storing
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import DeletionTask, JobStatus, Stage, StorageTask, pack_chunk_ids
from embedfleet.records import batches, chunks, generations, job_completion, jobs
from embedfleet.records.batches import Batch
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.job_completion import JobEnd
from embedfleet.records.jobs import Job
from embedfleet.settings import PoolsSettings, Settings, VectorStoreSettings
from embedfleet.sql import document_lock, tables
from embedfleet.sql.database import Database
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey, Metadata, VectorRows
from embedfleet.workers.base_worker import Failures
from embedfleet.workers.deletion_worker import DeletionLoop
from embedfleet.workers.services import Services
from embedfleet.workers.storage_worker import MarkedForDeletion, StorageLoop
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import (
    ONE_EACH,
    TENANT,
    Configure,
    all_at_the_end,
    paragraphs,
    running,
    take_ledger,
)

CHUNK, NEXT_CHUNK = "ab" * 16, "cd" * 16


async def nothing() -> None:
    return


class HeldStore(NullVectorStore):
    """Says which ids it holds, and lets a test do something right after it wrote or deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.metadatas: dict[str, Metadata] = {}
        self.after_update: Callable[[], Awaitable[object]] = nothing
        self.after_upsert: Callable[[], Awaitable[object]] = nothing
        self.after_delete: Callable[[], Awaitable[object]] = nothing

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        there = sorted(self.ids & set(ids))
        return there, np.ones((len(there), 1), dtype=np.float32)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self.ids |= set(rows.ids)
        self.metadatas |= dict(zip(rows.ids, rows.metadatas, strict=True))
        await self.after_upsert()

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        self.metadatas |= dict(zip(ids, metadatas, strict=True))
        await self.after_update()

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        self.ids -= set(ids)
        await self.after_delete()


class Bench:
    """A document of one chunk, and the workers that write and delete its vector, one step at a time."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.store = HeldStore()
        self.jobs = EmbeddingJobManager(
            JobManagerConfig(settings=settings), database=database, clock=ManualClock()
        )

    def services(self) -> Services:
        return Services(MemoryBroker(), self.database, Metrics(), ManualClock(), PoolsSettings())

    async def submit(self, content: str) -> Job:
        return await self.job(await self.jobs.create_job(media_id="1", user_id=TENANT, content=content))

    async def job(self, job_id: str) -> Job:
        job = await self.database.read(lambda conn: jobs.get(conn, job_id))
        assert job is not None
        return job

    async def chunk(self, job: Job, *ids: str) -> None:
        """The document has these chunks, each in a batch of its own; only CHUNK if none is named."""
        ids = ids or (CHUNK,)

        def write(conn: Connection) -> None:
            document_lock.lock(conn, [job.document_id])
            rows = [ChunkRow(place, chunk_id, 0, 1, 1, "") for place, chunk_id in enumerate(ids)]
            chunks.add(conn, [(job.document_id, job.generation_id, rows)])
            batches.add(conn, {job.job_id: [Batch(place, place, 1) for place in range(len(ids))]})
            job_completion.seal(conn, [JobEnd(job.job_id, len(ids), 1.0)], now=1.0)

        await self.database.write(write)

    async def write_vector(self, job: Job, ordinal: int = 0) -> Failures:
        """A storage worker carries out the task that was made for a batch of this run of the job."""
        loop = StorageLoop(
            "s", self.services(), store=self.store, settings=VectorStoreSettings(store_documents=False)
        )
        message = StorageTask(
            tenant=TENANT,
            job_id=job.job_id,
            ordinal=ordinal,
            space="s",
            dim=1,
            chunk_ids=pack_chunk_ids([(CHUNK, NEXT_CHUNK)[ordinal]]),
            vectors=np.ones((1, 1), dtype="<f4").tobytes(),
            dead=(),
        )
        task = Task(f"{job.job_id}:{job.run}:{ordinal}", TENANT, job.job_id, 1, message.encode())
        return await carry_out(loop, Stage.STORAGE, task)

    async def clean(self, job: Job) -> None:
        """A deletion worker looks after the document."""
        loop = DeletionLoop("d", self.services(), store=self.store)
        name = job.document_id
        message = DeletionTask(tenant=TENANT, job_id=name, document_id=name)
        assert await carry_out(loop, Stage.DELETION, Task(name, TENANT, name, 1, message.encode())) == {}

    async def patch(self, **patch: str) -> None:
        await self.jobs.of(TENANT).set_metadata(media_id="1", patch=patch)

    async def stored(self) -> bool:
        return bool(await self.database.read(lambda conn: chunks.ids_stored(conn, [CHUNK])))

    async def to_be_deleted(self) -> bool:
        return bool(await self.database.read(lambda conn: chunks.ids_being_deleted(conn, [CHUNK])))


async def carry_out(loop: StorageLoop | DeletionLoop, stage: Stage, task: Task) -> Failures:
    broker = MemoryBroker()
    await broker.enqueue(stage, [task])
    leases = await broker.claim(stage, worker="w", max_tasks=1, max_cost=1, lease_seconds=60)
    return await loop.process(leases, all_at_the_end)


@pytest.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    try:
        yield Bench(settings, database)
    finally:
        await database.close()


@on_both_databases
async def test_a_run_that_is_over_is_not_counted_in_the_next(bench: Bench) -> None:
    first = await bench.submit("words")
    await bench.chunk(first)

    async def cancelled_and_retried() -> None:
        bench.store.after_upsert = nothing
        await bench.jobs.of(TENANT).cancel(first.job_id)
        await bench.jobs.of(TENANT).retry(first.job_id)
        await bench.chunk(first)

    bench.store.after_upsert = cancelled_and_retried
    assert await bench.write_vector(first) == {}
    second = await bench.job(first.job_id)
    assert (second.run, second.batches_done, second.status.terminal) == (2, 0, False)

    # The new run has to wait until what the old one wrote is gone, and then completes.
    assert isinstance(next(iter((await bench.write_vector(second)).values())), MarkedForDeletion)
    await bench.clean(second)
    assert bench.store.ids == set()
    assert await bench.write_vector(second) == {}
    assert (await bench.job(first.job_id)).status is JobStatus.COMPLETED
    assert await bench.stored()
    assert bench.store.ids == {CHUNK}


@on_both_databases
async def test_a_vector_written_while_it_is_being_deleted_is_not_believed_to_be_there(bench: Bench) -> None:
    old = await bench.submit("old")
    await bench.chunk(old)
    assert await bench.write_vector(old) == {}  # live
    await bench.jobs.of(TENANT).delete_document(media_id="1")
    assert await bench.to_be_deleted()
    late = await bench.submit(
        "late"
    )  # revives the document, is superseded by `new` in the middle of its write
    recorded = asyncio.Event()
    deleted = asyncio.Event()

    async def until_recorded() -> None:
        deleted.set()
        await recorded.wait()

    bench.store.after_delete = until_recorded
    deleting = asyncio.create_task(bench.clean(old))
    await deleted.wait()  # from the vector store; SQL does not know yet
    await bench.database.write(lambda conn: _record(conn, late))
    new = await bench.submit("new")
    await bench.chunk(new)
    bench.store.after_delete = nothing
    recorded.set()
    await deleting
    # SQL must not say that it is there: the new version would count on it.
    assert not await bench.stored()
    await bench.clean(new)
    assert not await bench.to_be_deleted()
    assert await bench.write_vector(new) == {}
    assert await bench.stored()
    assert bench.store.ids == {CHUNK}


@on_both_databases
async def test_metadata_that_changes_while_a_first_version_is_written_reaches_its_rows(bench: Bench) -> None:
    job = await bench.submit("words")
    await bench.chunk(job)

    async def patched_and_cleaned() -> None:
        await bench.patch(team="legal")
        await bench.clean(job)  # for the patch: the version is not live, so there is nothing to describe

    bench.store.after_upsert = patched_and_cleaned
    assert await bench.write_vector(job) == {}
    assert "team" not in bench.store.metadatas[CHUNK]
    assert await bench.jobs.of_all_tenants().cleanups_left()
    await bench.clean(job)
    assert bench.store.metadatas[CHUNK]["team"] == "legal"
    assert not await bench.jobs.of_all_tenants().cleanups_left()


@on_both_databases
async def test_metadata_that_changes_between_two_batches_reaches_the_rows_of_both(bench: Bench) -> None:
    job = await bench.submit("words")
    await bench.chunk(job, CHUNK, NEXT_CHUNK)
    assert await bench.write_vector(job) == {}
    await bench.patch(team="legal")
    await bench.clean(job)  # for the patch: the version is not live, so there is nothing to describe
    assert await bench.write_vector(job, 1) == {}
    assert (await bench.job(job.job_id)).status is JobStatus.COMPLETED
    assert await bench.jobs.of_all_tenants().cleanups_left()
    await bench.clean(job)
    assert [bench.store.metadatas[one]["team"] for one in (CHUNK, NEXT_CHUNK)] == ["legal", "legal"]
    assert not await bench.jobs.of_all_tenants().cleanups_left()


@on_both_databases
async def test_metadata_that_changes_while_rows_are_described_reaches_the_rows(bench: Bench) -> None:
    job = await bench.submit("words")
    await bench.chunk(job)
    assert await bench.write_vector(job) == {}
    await bench.patch(team="legal")

    async def patched_again() -> None:
        bench.store.after_update = nothing
        await bench.patch(team="sales")

    bench.store.after_update = patched_again
    await bench.clean(job)
    assert bench.store.metadatas[CHUNK]["team"] == "sales"


@on_both_databases
async def test_a_row_that_a_repair_writes_while_its_metadata_changes_is_described_again(bench: Bench) -> None:
    job = await bench.submit("words")
    await bench.chunk(job)
    assert await bench.write_vector(job) == {}
    before = await bench.database.read(lambda conn: generations.generation(conn, job.generation_id))
    assert before is not None
    await bench.patch(team="legal")
    await bench.clean(job)
    await bench.database.write(
        lambda conn: storing.record_rewritten(conn, {CHUNK: before}, {}, 1.0, part_id=None)
    )
    bench.store.metadatas.clear()  # the repair wrote the metadata of before
    await bench.clean(job)
    assert bench.store.metadatas[CHUNK]["team"] == "legal"


def _record(conn: Connection, late: Job, record: Callable[..., None] = chunks.record_stored) -> None:
    """What a storage worker does that wrote the vector before it was deleted, or before the run was over
    (`chunks.record_for_deletion`), and could not say so yet."""
    document_lock.lock(conn, [late.document_id])
    generation = generations.generation(conn, late.generation_id)
    assert generation is not None
    record(conn, [(generation, [CHUNK])], checksums={})


@on_both_databases
async def test_what_turns_up_after_its_document_was_purged_is_deleted_too(bench: Bench) -> None:
    job = await bench.submit("words")
    await bench.chunk(job)

    async def deleted_and_purged() -> None:
        await bench.jobs.of(TENANT).delete_document(media_id="1")
        await bench.clean(job)

    bench.store.after_upsert = deleted_and_purged
    assert await bench.write_vector(job) == {}
    assert bench.store.ids == {CHUNK}
    assert await bench.jobs.of_all_tenants().cleanups_left()
    await bench.clean(job)
    assert bench.store.ids == set()
    assert not await bench.jobs.of_all_tenants().cleanups_left()
    assert not await bench.to_be_deleted()


@on_both_databases
async def test_a_vector_deleted_since_it_was_written_is_not_believed_to_be_there(bench: Bench) -> None:
    """What an ended run wrote is deleted whoever refers to it: also between a later version's write and its
    record of it."""
    ended = await bench.submit("old")
    await bench.chunk(ended)
    new = await bench.submit("new")
    await bench.chunk(new)

    async def told_and_cleaned() -> None:
        bench.store.after_upsert = nothing
        await bench.database.write(lambda conn: _record(conn, ended, chunks.record_for_deletion))
        await bench.clean(new)
        assert bench.store.ids == set()

    bench.store.after_upsert = told_and_cleaned
    assert [type(failure) for failure in (await bench.write_vector(new)).values()] == [MarkedForDeletion]
    assert not await bench.stored()
    await bench.clean(new)
    assert await bench.write_vector(new) == {}
    assert (await bench.job(new.job_id)).status is JobStatus.COMPLETED
    await bench.clean(new)  # of the version before
    assert not await bench.jobs.of_all_tenants().cleanups_left()
    assert await bench.stored()
    assert bench.store.ids == {CHUNK}


@on_both_databases
async def test_a_cancelled_retry_leaves_the_version_that_readers_see(bench: Bench) -> None:
    job = await bench.submit("words")
    await bench.chunk(job)
    assert await bench.write_vector(job) == {}
    await bench.database.write(lambda conn: _fail_partly(conn, job))
    await bench.jobs.of(TENANT).retry(job.job_id)
    await bench.jobs.of(TENANT).cancel(job.job_id)
    await bench.clean(job)
    assert bench.store.ids == {CHUNK}
    assert await bench.stored()


def _fail_partly(conn: Connection, job: Job) -> None:
    """As if some other chunk of it had died."""
    conn.execute(
        update(tables.jobs)
        .where(tables.jobs.c.job_id == job.job_id)
        .values(status=JobStatus.COMPLETED_WITH_ERRORS)
    )


class StopsAfterOne(ChromaVectorStore):
    """Takes one write of the new text; the next one waits until it is let go."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.is_held = asyncio.Event()
        self.let_go = asyncio.Event()
        self._writes = 0

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        if rows.documents is not None and any(text.startswith("new") for text in rows.documents):
            self._writes += 1
            if self._writes == 2:
                self.is_held.set()
                await self.let_go.wait()
        await super().upsert(collection, rows)


async def test_what_a_superseded_version_had_stored_goes_when_the_live_text_is_submitted_again(
    configure: Configure,
) -> None:
    one_at_a_time = {"batch_tasks": 1, "concurrency": 1}
    settings = configure(chunking={"batch_chunks": 1}, worker_pools={"storage": one_at_a_time})
    store = await StopsAfterOne.open(chroma_directory(settings.data_dir))
    async with running(settings, store=store) as fleet:
        await fleet.ingest("1", paragraphs("old", 3), chunking_config=ONE_EACH)
        newer = await fleet.submit("1", paragraphs("new", 3), chunking_config=ONE_EACH)
        async with asyncio.timeout(HANG_SECONDS):
            await store.is_held.wait()
        again = await fleet.submit("1", paragraphs("old", 3), chunking_config=ONE_EACH)
        store.let_go.set()
        assert (await fleet.jobs.get_job_status(newer)).reason == "superseded"
        assert (await fleet.jobs.get_job_status(again)).reason == "unchanged"
        await fleet.idle()
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
