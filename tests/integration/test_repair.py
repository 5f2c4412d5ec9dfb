"""Damage to the vector store: found, named, and mended without a model where the cache knows the vectors."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import delete, make_url, update

from embedfleet.bootstrap import RepairSystem, open_guest, open_parts, open_repair, open_store
from embedfleet.cli.verify import rebuild_store
from embedfleet.clock import SystemClock
from embedfleet.errors import ConfigError, DataDirectoryInUse, Remedy, SpaceMismatch, VectorStoreUnavailable
from embedfleet.inference.catalogue import Catalogue
from embedfleet.joining import move
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import collections
from embedfleet.records.collections import Collection
from embedfleet.records.scope import EveryTenant, OneTenant
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Differences, Sampling, Verification
from embedfleet.settings import Settings
from embedfleet.sql import tables
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import CollectionKey, VectorRows, VectorStore
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases, on_both_databases
from support.system import (
    ONE_EACH,
    TENANT,
    Configure,
    ledger_of,
    make_settings,
    paragraphs,
    read_chroma,
    running,
)

CHUNKS = 30
ORPHAN = "ef" * 16


async def ingest(settings: Settings, count: int = CHUNKS) -> None:
    async with running(settings) as fleet:
        info = await fleet.ingest("1", paragraphs("text", count), chunking_config=ONE_EACH, source="a.txt")
        assert info.status is JobStatus.COMPLETED
        await fleet.idle()  # the storage worker may have ended the job before the cache was written


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[tuple[VectorStore, Collection, list[str]]]:
    """The store, its one collection, and the ids there, for doing damage."""
    store = await open_store(settings)
    async with open_guest(settings) as guest:
        (collection,) = await guest.database.read(partial(collections.within, scope=EveryTenant()))
    ids = [row_id async for page, _ in store.scan(collection) for row_id in page]
    try:
        yield store, collection, sorted(ids)
    finally:
        await store.close()


async def overwrite(store: VectorStore, collection: Collection, ids: Sequence[str]) -> None:
    """The ids stay, the vectors are those of something else."""
    vectors = np.random.default_rng(7).standard_normal((len(ids), 64)).astype(np.float32)
    await store.upsert(collection, VectorRows(ids, vectors, [{"chunk_id": row_id} for row_id in ids], None))


async def check(settings: Settings, *, sampling: Sampling | None = None) -> Differences:
    async with open_repair(settings, purpose="test", scope=EveryTenant(), sampling=sampling) as system:
        (collection,) = system.collections
        return await system.verification.check(collection)


async def mend_all(system: RepairSystem) -> None:
    """And find nothing when looking again."""
    for collection in system.collections:
        found = await system.verification.check(collection, check_without_checksum=True)
        assert await system.rebuilding.mend(found) == found.count
        again = await system.verification.check(collection)
        assert (again.count, again.rounded, again.without_checksum) == (0, [], [])


async def repair(settings: Settings, *, empty: bool = False) -> int:
    """Mend; returns how many texts the model was asked for."""
    async with open_repair(settings, purpose="test", scope=EveryTenant(), empty=empty) as system:
        await mend_all(system)
        return system.truth.embedded


def by_id(settings: Settings) -> dict[str, object]:
    return {row["id"]: row for row in read_chroma(settings)}


@on_both_databases
async def test_an_unchanged_store_has_no_differences(settings: Settings) -> None:
    await ingest(settings)
    found = await check(settings, sampling=Sampling(1.0, seed=1))
    assert (found.rows, found.sampled, found.count) == (CHUNKS, CHUNKS, 0)
    assert found.without_checksum == found.rounded == []


@on_both_databases
async def test_every_kind_of_damage_is_named_and_mended_from_the_cache(settings: Settings) -> None:
    await ingest(settings)
    before = by_id(settings)
    async with opened_store(settings) as (store, collection, ids):
        await store.delete(collection, ids[:3])
        await overwrite(store, collection, [*ids[3:5], ORPHAN])
    found = await check(settings)
    assert sorted(found.missing) == ids[:3]
    assert sorted(found.wrong) == ids[3:5]
    assert found.extra == [ORPHAN]

    assert await repair(settings) == 0
    assert by_id(settings) == before, "metadata and text are those a storage worker writes"


async def test_what_the_cache_does_not_know_is_embedded_again_and_kept(settings: Settings) -> None:
    await ingest(settings)
    async with open_guest(settings) as guest:
        await guest.database.write(lambda conn: conn.execute(delete(tables.embeddings)))
    async with opened_store(settings) as (store, collection, ids):
        await store.delete(collection, ids[:4])
    assert await repair(settings) == 4
    async with opened_store(settings) as (store, collection, ids):
        await store.delete(collection, ids[:4])
    assert await repair(settings) == 0


async def test_a_right_vector_with_another_checksum_is_rounding_and_gets_its_checksum(
    settings: Settings,
) -> None:
    await ingest(settings)
    async with open_guest(settings) as guest:
        await guest.database.write(
            lambda conn: conn.execute(update(tables.vectors).values(checksum=b"12345678"))
        )
    found = await check(settings)
    assert (found.count, len(found.rounded)) == (0, CHUNKS)
    await repair(settings)


async def test_rows_of_an_older_release_have_no_checksum_until_they_are_repaired(settings: Settings) -> None:
    await ingest(settings)
    async with open_guest(settings) as guest:
        await guest.database.write(lambda conn: conn.execute(update(tables.vectors).values(checksum=None)))
    async with opened_store(settings) as (store, collection, ids):
        await overwrite(store, collection, ids[:1])
    found = await check(settings)
    assert (found.count, len(found.without_checksum)) == (0, CHUNKS)
    await repair(settings)


async def test_a_sample_finds_what_was_wrong_from_the_start(settings: Settings) -> None:
    """A checksum only says that the store still has what it was given."""
    await ingest(settings)
    async with open_guest(settings) as guest:
        wrong = np.ones(64, dtype="<f4").tobytes()
        await guest.database.write(lambda conn: conn.execute(update(tables.embeddings).values(vector=wrong)))
    await repair(settings, empty=True)
    assert (await check(settings)).count == 0
    assert len((await check(settings, sampling=Sampling(1.0, seed=1))).wrong) == CHUNKS


@on_both_databases
async def test_a_wiped_store_is_rebuilt_without_a_model(settings: Settings) -> None:
    await ingest(settings)
    before = by_id(settings)
    async with opened_store(settings) as (store, collection, _ids):
        await store.drop_collection(collection)
    assert len((await check(settings)).missing) == CHUNKS
    assert await repair(settings, empty=True) == 0
    assert by_id(settings) == before


def corrupt(database: Path, damage: str) -> None:
    content = database.read_bytes()
    junk = b"junk" * (len(content) // 4)
    database.write_bytes(junk if damage == "overwritten" else content[: 3 * 4096 + 7])
    for leftover in ("-wal", "-shm"):
        Path(f"{database}{leftover}").unlink(missing_ok=True)


@pytest.mark.parametrize("damage", ["overwritten", "truncated"])
async def test_a_store_that_cannot_be_opened_is_moved_aside_and_built_again(
    settings: Settings, damage: str
) -> None:
    await ingest(settings)
    before = by_id(settings)
    corrupt(chroma_directory(settings.data_dir) / "chroma.sqlite3", damage)
    with pytest.raises(VectorStoreUnavailable):
        await check(settings)
    async with open_repair(settings, purpose="test", scope=EveryTenant(), empty=True) as system:
        assert system.put_aside is not None
        assert (system.put_aside / "chroma.sqlite3").exists()
        await mend_all(system)
    assert by_id(settings) == before


async def test_a_store_in_use_is_left_alone_and_its_user_named(settings: Settings) -> None:
    async with running(settings):
        with pytest.raises(DataDirectoryInUse, match="test"):
            await check(settings)


async def test_a_model_that_has_another_space_than_the_collection_is_an_error(configure: Configure) -> None:
    await ingest(configure())
    changed = configure(models={"default": "stub", "catalogue": {"stub": {"backend": "stub", "dim": 32}}})
    async with opened_store(changed) as (store, collection, ids):
        await store.delete(collection, ids[:1])
    assert len((await check(changed)).missing) == 1
    with pytest.raises(SpaceMismatch, match="restore that model"):
        await repair(changed)


async def test_one_tenants_repair_leaves_the_others_alone(settings: Settings) -> None:
    async with running(settings) as fleet:
        for tenant in (TENANT, "bob"):
            await fleet.ingest("1", paragraphs(tenant, 3), chunking_config=ONE_EACH, user_id=tenant)
    async with open_repair(settings, purpose="test", scope=OneTenant("bob"), empty=True) as system:
        (collection,) = system.collections
        assert collection.tenant == "bob"
        await mend_all(system)
    assert {row["user_id"] for row in read_chroma(settings)} == {TENANT, "bob"}


async def test_rows_that_workers_write_or_delete_during_verification_are_not_reported(
    configure: Configure, chroma_server: ChromaServer
) -> None:
    settings = configure(vector_store={"url": chroma_server.url})
    tenant = "churning"  # the server is every test's: rows of another would be extra
    async with running(settings) as fleet:
        system = fleet.system

        async def churn() -> None:
            for turn in range(6):
                text = paragraphs(f"text{turn % 2}", 60)
                await fleet.ingest("1", text, chunking_config=ONE_EACH, user_id=tenant)
                await fleet.jobs.of(tenant).delete_document(media_id="1")
                await fleet.settled()

        await fleet.ingest("2", paragraphs("stays", 40), chunking_config=ONE_EACH, user_id=tenant)
        working = asyncio.create_task(churn())
        looks = 0
        # The fleet is one with its own queues here: only the store and SQL are shared, as for any guest.
        async with open_shared(settings) as repairing:
            while not working.done():
                for collection in repairing.collections:
                    found = await repairing.verification.check(collection)
                    assert (found.missing, found.extra, found.wrong) == ([], [], [])
                    looks += 1
        await working
        assert looks > 2
        (await ledger_of(system.database, system.store)).assert_exact()


class LookedAtStore(ChromaVectorStore):
    """Is verified right after each write, before SQL knows of it."""

    look: Callable[[], Awaitable[None]]

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await super().upsert(collection, rows)
        await self.look()


async def test_a_write_that_sql_has_not_recorded_yet_is_not_extra(settings: Settings) -> None:
    store = await LookedAtStore.open(chroma_directory(settings.data_dir))
    found: list[Differences] = []
    async with running(settings, store=store) as fleet:
        database, models = fleet.system.database, fleet.system.models
        truth = TrueVectors(database, Catalogue(settings.models), models, caching=True, now=0.0)
        verification = Verification(database, store, truth)

        async def look() -> None:
            for collection in await database.read(partial(collections.within, scope=EveryTenant())):
                assert await store.count(collection)
                found.append(await verification.check(collection))

        store.look = look
        await fleet.ingest("1", paragraphs("text", CHUNKS), chunking_config=ONE_EACH)
    assert [differences.extra for differences in found] == [[]]


class MovingStore(ChromaVectorStore):
    """Seen empty, and its document is deleted and comes back while the rows are looked for again."""

    move: Callable[[], Awaitable[None]] | None = None

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        if self.move is None:
            async for some in super().scan(collection, page=page):
                yield some

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        if self.move is None:
            return await super().vectors(collection, ids)
        move, self.move = self.move, None
        await move()
        return [], np.empty((0, 0), dtype=np.float32)


async def test_a_document_that_was_deleted_and_ingested_again_between_two_reads_is_not_missing(
    settings: Settings,
) -> None:
    store = await MovingStore.open(chroma_directory(settings.data_dir))
    text = paragraphs("text", CHUNKS)
    async with running(settings, store=store) as fleet:
        database, models = fleet.system.database, fleet.system.models
        truth = TrueVectors(database, Catalogue(settings.models), models, caching=True, now=0.0)
        verification = Verification(database, store, truth)
        await fleet.ingest("1", text, chunking_config=ONE_EACH)

        async def move() -> None:
            await fleet.jobs.of(TENANT).delete_document(media_id="1")
            await fleet.settled()
            await fleet.ingest("1", text, chunking_config=ONE_EACH)

        store.move = move
        (collection,) = await database.read(partial(collections.within, scope=EveryTenant()))
        assert (await verification.check(collection)).missing == []
        assert (await verification.check(collection)).count == 0


@asynccontextmanager
async def open_shared(settings: Settings) -> AsyncIterator[RepairSystem]:
    """As beside a fleet: another process does not own the data directory."""
    fleet = settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update={"url": "set"}),
            "worker_pools": settings.worker_pools,
        }
    )
    async with open_repair(fleet, purpose="test", scope=EveryTenant()) as system:
        yield system


async def test_a_copy_of_a_postgresql_database_gets_its_vectors_by_a_rebuild(
    tmp_path: Path, postgres_databases: PostgresDatabases
) -> None:
    """The documented way to restore, with the copy made by the server itself."""
    server = postgres_databases.server
    with postgres_databases.migrated() as url:
        await ingest(make_settings(tmp_path, database_url=url))
        copy = server.create_database(template=str(make_url(url).database))
        try:
            restored = make_settings(tmp_path / "restored", database_url=server.url_of(copy))
            with pytest.raises(ConfigError, match="which that system does not know"):
                await repair(restored, empty=True)
            async with open_parts(restored, purpose="test") as (database, parts):
                await move(database, parts, SystemClock())
            assert await repair(restored, empty=True) == 0
            rows = read_chroma(restored)
        finally:
            server.drop_database(copy)
    assert len(rows) == CHUNKS


async def test_a_collection_that_its_server_cannot_read_is_named_and_rebuilt(
    configure: Configure, tmp_path: Path
) -> None:
    with ChromaServer(tmp_path / "chroma") as server:
        settings = configure(vector_store={"url": server.url})
        await ingest(settings)
        server.stop()
        with closing(sqlite3.connect(server.directory / "chroma.sqlite3")) as database, database:
            # As a kill in the middle of writing may leave it: a log that the index cannot take.
            damaged = database.execute("UPDATE embeddings_queue SET vector = x'00' WHERE vector IS NOT NULL")
            assert damaged.rowcount == CHUNKS
        server.start()
        with pytest.raises(
            VectorStoreUnavailable, match=r"cannot be read: .* rebuild the vectors"
        ) as refused:
            await check(settings)
        assert refused.value.remedy is Remedy.REBUILD_VECTORS
        await rebuild_store(settings, EveryTenant())
        assert (await check(settings)).count == 0
