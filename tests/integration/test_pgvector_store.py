"""The vector store in PostgreSQL beyond the promises of the port: its tables, its indexes, its rights."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from embedfleet.errors import ConfigError, VectorStoreUnavailable
from embedfleet.settings import Settings, load_settings
from embedfleet.sql.database import Database
from embedfleet.vectors.pgvector import rows as stored
from embedfleet.vectors.pgvector import store as pgvector_store
from embedfleet.vectors.pgvector.schema import _LOCKS, SCHEMA, identity_of
from embedfleet.vectors.pgvector.store import PgvectorStore
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows, VectorStore
from embedfleet.vectors.registry import source_kind, store_kind
from support.clusters import clustered
from support.databases import PostgresDatabases
from support.hangs import HANG_SECONDS
from support.stores import overrides, rows_in_postgres

LARGE = TenantSpace("large", "wide/v1", 24)
SMALL = replace(LARGE, tenant="small")
MOST = 10
CROWDED_ROWS = 2_000
FEW = 200


def store_settings(folder: Path, url: str, **more: Any) -> Settings:
    return load_settings(environ={}, overrides=overrides(folder, kind="pgvector", url=url, **more))


@pytest.fixture(autouse=True)
def soon_crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of 10,000 rows takes seconds to build."""
    monkeypatch.setattr(stored, "CROWDED_ROWS", CROWDED_ROWS)


@pytest.fixture
def crowded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of `FEW` rows is crowded, and each write looks at its size."""
    monkeypatch.setattr(stored, "CROWDED_ROWS", FEW)
    monkeypatch.setattr(pgvector_store, "_ROWS_PER_LOOK", 0)


async def opened(settings: Settings) -> VectorStore:
    return await store_kind("pgvector").open_store(settings)


@pytest.fixture
async def store(tmp_path: Path, empty_postgres_url: str) -> AsyncIterator[VectorStore]:
    store = await opened(store_settings(tmp_path, empty_postgres_url))
    for collection in (LARGE, SMALL):
        await store.ensure_collection(collection)
    yield store
    await store.close()


async def write(
    store: VectorStore, collection: TenantSpace, vectors: NDArray[np.float32], *, first: int = 0
) -> None:
    """The id of a row is its number, from `first` on."""
    for start in range(0, len(vectors), 2_000):
        part = vectors[start : start + 2_000]
        ids = [f"{first + start + place}" for place in range(len(part))]
        await store.upsert(collection, VectorRows(ids, part, [{"job_id": "j"}] * len(part), None))


def limit_calls(store: VectorStore, *, milliseconds: int) -> None:
    """From now on. What opens a store on a slow machine takes its time."""
    assert isinstance(store, PgvectorStore)
    store._timeout_seconds = milliseconds / 1000
    for connection in store._connections:
        connection.execute(f"SET statement_timeout = {milliseconds}".encode())
        connection.commit()


async def tended(store: VectorStore) -> None:
    while await store.debt() != StoreDebt():
        await store.tend()


async def recall(store: VectorStore, collection: TenantSpace, vectors: NDArray[np.float32]) -> float:
    right = 0
    queries = clustered(50, LARGE.dim, seed=9)
    for query in queries:
        hits = await store.query(collection, query, limit=MOST)
        right += len({hit.id for hit in hits} & {f"{n}" for n in np.argsort(-(vectors @ query))[:MOST]})
    return right / (len(queries) * MOST)


async def build_waits_for_reader(store: VectorStore, url: str) -> None:
    """The server lets the build of an index wait for readers that are older. Then it is cancelled."""
    building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"
    tending = asyncio.create_task(store.tend())
    async with asyncio.timeout(HANG_SECONDS):
        while ask(url, building) == [(0,)]:  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0)
        tending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await tending
        while ask(url, building) != [(0,)]:  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0)


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(query.encode()).fetchall()


def segments(url: str) -> list[int]:
    """How many rows each index had when it was built."""
    return [row[0] for row in ask(url, f"SELECT rows FROM {SCHEMA}.segments ORDER BY first_seq")]


class TestIndexes:
    async def test_a_collection_that_grows_is_indexed_and_rows_written_since_are_found_too(
        self, store: VectorStore, empty_postgres_url: str
    ) -> None:
        vectors = clustered(CROWDED_ROWS + 1_000, LARGE.dim)
        await write(store, LARGE, vectors[:CROWDED_ROWS])
        await write(store, SMALL, vectors[:500])
        # Twice that number: then a look at its size is sure to have come.
        await write(store, LARGE, vectors[:CROWDED_ROWS])
        assert await store.debt() == StoreDebt(unindexed_rows=CROWDED_ROWS)
        await tended(store)
        assert segments(empty_postgres_url) == [CROWDED_ROWS]
        await write(store, LARGE, vectors[CROWDED_ROWS:], first=CROWDED_ROWS)
        assert await store.debt() == StoreDebt(), "so few are compared"
        assert await recall(store, LARGE, vectors) >= 0.95
        assert await recall(store, SMALL, vectors[:500]) == 1
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname LIKE 'vectors_1_%_%'"
        await store.close()  # a connection that ends reports its counts
        assert ask(empty_postgres_url, scans)[0][0] >= 50

    async def test_indexes_of_one_size_become_one(self, store: VectorStore, empty_postgres_url: str) -> None:
        vectors = clustered(2 * CROWDED_ROWS, LARGE.dim)
        await write(store, LARGE, vectors[:CROWDED_ROWS])
        await tended(store)
        await write(store, LARGE, vectors[CROWDED_ROWS:], first=CROWDED_ROWS)
        assert await store.debt() == StoreDebt(unindexed_rows=CROWDED_ROWS)
        await tended(store)
        assert segments(empty_postgres_url) == [2 * CROWDED_ROWS]
        found = ask(
            empty_postgres_url,
            f"SELECT count(*) FROM pg_indexes WHERE schemaname = '{SCHEMA}' AND indexdef LIKE '%hnsw%'",
        )
        assert found == [(1,)]
        assert await recall(store, LARGE, vectors) >= 0.95

    async def test_rows_that_were_written_again_or_deleted_since_are_found_as_they_are_now(
        self, store: VectorStore
    ) -> None:
        """An index has the old vector until the server cleans it: a search must not go by that."""
        vectors = clustered(CROWDED_ROWS, LARGE.dim)
        await write(store, LARGE, vectors)
        await tended(store)
        changed = clustered(CROWDED_ROWS, LARGE.dim, seed=2)[:300]
        await write(store, LARGE, changed)
        await store.delete(LARGE, [f"{number}" for number in range(300, 1_000)])
        hits = [await store.query(LARGE, query, limit=MOST) for query in clustered(20, LARGE.dim, seed=4)]
        assert not {hit.id for found in hits for hit in found} & {f"{n}" for n in range(300, 1_000)}
        assert {len(found) for found in hits} == {MOST}
        for number in (0, 150, 299):
            [nearest, *_] = await store.query(LARGE, changed[number], limit=3)
            assert (nearest.id, round(nearest.score, 5)) == (f"{number}", 1)
        assert await store.count(LARGE) == CROWDED_ROWS - 700

    async def test_what_a_killed_build_left_behind_is_removed_by_the_next(
        self, store: VectorStore, empty_postgres_url: str
    ) -> None:
        await write(store, LARGE, clustered(CROWDED_ROWS, LARGE.dim))
        await tended(store)
        with psycopg.connect(empty_postgres_url, autocommit=True) as conn:
            conn.execute(
                f"CREATE INDEX vectors_1_77_99 ON {SCHEMA}.vectors_1 USING hnsw "
                "((l2_normalize(vector)::halfvec(24)) halfvec_cosine_ops) WHERE seq < 99".encode()
            )
        await write(store, LARGE, clustered(CROWDED_ROWS, LARGE.dim, seed=2), first=CROWDED_ROWS)
        await tended(store)
        left = ask(
            empty_postgres_url, "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'vectors_1_77%'"
        )
        assert left == []

    async def test_an_upkeep_that_is_cancelled_stops_in_the_server_too_and_is_done_by_the_next(
        self, store: VectorStore, empty_postgres_url: str
    ) -> None:
        await write(store, LARGE, clustered(CROWDED_ROWS, LARGE.dim))
        with psycopg.connect(empty_postgres_url) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT 1")
            await build_waits_for_reader(store, empty_postgres_url)
        await tended(store)
        assert segments(empty_postgres_url) == [CROWDED_ROWS]

    async def test_a_scan_goes_on_while_the_rows_move_to_tables_of_their_own(
        self, store: VectorStore
    ) -> None:
        await write(store, LARGE, clustered(CROWDED_ROWS, LARGE.dim))
        seen: list[str] = []
        async for ids, _ in store.scan(LARGE, page=100):
            if len(seen) == 500:
                await tended(store)
            seen += ids
        assert sorted(seen) == sorted(f"{number}" for number in range(CROWDED_ROWS))

    async def test_vectors_that_are_too_large_for_an_index_are_compared(self, store: VectorStore) -> None:
        wide = replace(LARGE, space="wider/v1", dim=5_000)
        vectors = np.random.default_rng(0).standard_normal((30, wide.dim), dtype=np.float32) * 1e6
        await store.ensure_collection(wide)
        await write(store, wide, vectors)
        ids, held = await store.vectors(wide, [f"{n}" for n in range(30)])
        in_order = held[np.argsort([int(row_id) for row_id in ids])]
        assert in_order.tobytes() == vectors.tobytes(), "bit by bit"
        assert [hit.id for hit in await store.query(wide, vectors[7], limit=1)] == ["7"]

    async def test_a_vector_without_a_direction_is_no_error(self, store: VectorStore) -> None:
        await write(store, SMALL, np.zeros((1, SMALL.dim), dtype=np.float32))
        hits = await store.query(SMALL, clustered(1, LARGE.dim)[0], limit=3)
        assert [(hit.id, hit.score) for hit in hits] == [("0", 0)]


@pytest.mark.usefixtures("crowded_at_once")
class TestLateUpkeep:
    """The leader was away while much was written."""

    async def test_all_rows_that_wait_are_told_and_a_time_limit_of_calls_is_none_of_upkeep(
        self, store: VectorStore, tmp_path: Path, empty_postgres_url: str
    ) -> None:
        await write(store, LARGE, clustered(3 * FEW, LARGE.dim))
        assert await store.debt() == StoreDebt(unindexed_rows=3 * FEW)
        waits = "SELECT max(now() - query_start) > '0.3s' FROM pg_stat_activity WHERE wait_event = 'advisory'"
        hurried = await opened(store_settings(tmp_path, empty_postgres_url))
        limit_calls(hurried, milliseconds=200)
        with psycopg.connect(empty_postgres_url) as writer:
            lock = int.from_bytes(identity_of(LARGE)[:4], "big", signed=True)
            writer.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", [_LOCKS, lock])
            tending = asyncio.create_task(hurried.tend())
            async with asyncio.timeout(HANG_SECONDS):
                while not tending.done() and ask(empty_postgres_url, waits) != [(True,)]:  # noqa: ASYNC110 - it sends no event
                    await asyncio.sleep(0)
            assert not tending.done()
        await tending
        await hurried.close()
        assert segments(empty_postgres_url) == [3 * FEW]

    async def test_a_collection_that_fails_holds_up_no_other(
        self, store: VectorStore, empty_postgres_url: str
    ) -> None:
        for collection in (LARGE, SMALL):
            await write(store, collection, clustered(FEW, LARGE.dim))
        with psycopg.connect(empty_postgres_url) as conn:
            conn.execute(f"CREATE TABLE {SCHEMA}.vectors_1 (of_another integer)".encode())
        with pytest.raises(psycopg.errors.DuplicateTable):
            await store.tend()
        assert segments(empty_postgres_url) == [FEW]
        assert await store.debt() == StoreDebt(unindexed_rows=FEW)

    async def test_an_upkeep_that_is_cancelled_stops_no_other_task_while_the_server_does_not_answer(
        self,
    ) -> None:
        """To cancel takes a connection of its own, which a server that has vanished never accepts."""
        answered = threading.Event()

        class Vanished:
            def cancel_safe(self, *, timeout: float) -> None:
                assert answered.wait(HANG_SECONDS)

            def close(self) -> None: ...

        store = PgvectorStore({}, "PostgreSQL", timeout_seconds=1, beside_records=False)
        working: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended = asyncio.create_task(store._ended(cast("psycopg.Connection[Any]", Vanished()), working))
        await asyncio.sleep(0)
        working.set_result(None)
        answered.set()
        await ended
        await store.close()


class TestForgetting:
    @pytest.mark.usefixtures("crowded_at_once")
    async def test_no_text_stays_in_the_tables_that_the_rows_have_left(
        self, store: VectorStore, empty_postgres_url: str
    ) -> None:
        """A collection that grew had its first rows in the tables of all."""
        n = FEW
        texts = [f"secret {number}." for number in range(n)]
        await store.upsert(LARGE, VectorRows(texts, clustered(n, LARGE.dim), [{"job_id": "j"}] * n, texts))
        await store.delete(LARGE, ["secret 7."])
        await tended(store)
        await store.delete(LARGE, ["secret 8."])
        await store.forget_deleted(LARGE)
        held = rows_in_postgres(empty_postgres_url)
        assert "secret 7." not in held
        assert "secret 8." not in held
        assert "secret 9." in held

    async def test_a_transaction_that_keeps_deleted_rows_is_named(
        self, tmp_path: Path, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = await opened(store_settings(tmp_path, empty_postgres_url))
        with psycopg.connect(empty_postgres_url, application_name="a report") as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT 1")
            await store.ensure_collection(SMALL)
            await write(store, SMALL, clustered(3, LARGE.dim))
            await store.delete(SMALL, ["1"])
            with monkeypatch.context() as impatient:
                impatient.setattr(store, "_timeout_seconds", 0.0)
                with pytest.raises(VectorStoreUnavailable, match="a transaction of `a report`"):
                    await store.forget_deleted(SMALL)
        await store.forget_deleted(SMALL)
        await store.close()


class TestRights:
    async def test_a_user_without_rights_is_told_what_to_run(
        self, tmp_path: Path, postgres_databases: PostgresDatabases
    ) -> None:
        server = postgres_databases.server
        with postgres_databases.empty() as url:
            database = url.partition("@/")[2].partition("?")[0]
            server.execute(f"CREATE ROLE {database}_user LOGIN")
            settings = store_settings(tmp_path, server.url_of(database, user=f"{database}_user"))
            with pytest.raises(ConfigError, match="`CREATE EXTENSION vector` there as a superuser"):
                await opened(settings)
            server.execute("CREATE EXTENSION vector", database=database)
            with pytest.raises(ConfigError, match="run `CREATE SCHEMA embedfleet_vectors AUTHORIZATION"):
                await opened(settings)
            server.execute(
                f"CREATE SCHEMA embedfleet_vectors AUTHORIZATION {database}_user", database=database
            )
            store = await opened(settings)
            await store.ensure_collection(SMALL)
            await write(store, SMALL, clustered(3, LARGE.dim))
            assert await store.count(SMALL) == 3
            await store.close()
            server.execute(f"DROP OWNED BY {database}_user", database=database)
        server.execute(f"DROP ROLE {database}_user")

    async def test_an_extension_in_a_schema_that_is_not_searched_is_found(
        self, tmp_path: Path, empty_postgres_url: str
    ) -> None:
        elsewhere = 'CREATE SCHEMA "odd Name"; CREATE EXTENSION vector SCHEMA "odd Name"'
        with psycopg.connect(empty_postgres_url) as conn:
            conn.execute(elsewhere)
        store = await opened(store_settings(tmp_path, empty_postgres_url))
        await store.ensure_collection(LARGE)
        vectors = clustered(CROWDED_ROWS, LARGE.dim)
        await write(store, LARGE, vectors)
        await tended(store)
        assert segments(empty_postgres_url) == [CROWDED_ROWS]
        assert [hit.id for hit in await store.query(LARGE, vectors[5], limit=1)] == ["5"]
        await store.close()

    async def test_settings_that_name_no_database_are_refused_without_a_password(
        self, tmp_path: Path
    ) -> None:
        for url, words in (
            ("http://h:8000", "names no PostgreSQL database"),
            ("postgresql://u:se@cret@h/d", "special character"),
        ):
            with pytest.raises(ConfigError, match=words) as refused:
                await opened(store_settings(tmp_path, url))
            assert "cret" not in str(refused.value)


async def test_the_tables_of_the_store_are_no_source_to_adopt(
    store: VectorStore, empty_postgres_url: str, tmp_path: Path
) -> None:
    await write(store, SMALL, clustered(3, LARGE.dim))
    with pytest.raises(ConfigError, match="has no table with a column"):
        await source_kind("pgvector").open_source(empty_postgres_url, scratch=tmp_path)


async def test_what_postgresql_cannot_hold_is_refused_by_its_row_and_a_nul_in_a_text_is_replaced(
    tmp_path: Path, postgres_url: str
) -> None:
    settings = load_settings(
        environ={},
        overrides=overrides(tmp_path, kind="pgvector") | {"database": {"url": postgres_url}},
    )
    store = await opened(settings)
    with_records = store.with_records()
    assert with_records is not None
    ids = ["good", "nul\0", "half", "number"]
    texts = ["a\0b", "text", "\ud800", "text"]
    metadatas = [{"n": 1.0}, {"n": 1.0}, {"n": 1.0}, {"n": float("nan")}]
    prepared = await with_records.prepare(SMALL, VectorRows(ids, clustered(4, LARGE.dim), metadatas, texts))
    assert prepared.refused.keys() == {"nul\0", "half", "number"}
    await store.ensure_collection(SMALL)
    database = Database(postgres_url)
    await database.open()
    written, vectors = await database.write(lambda conn: prepared.write(conn, set(ids)))
    assert (written, vectors.tobytes()) == (["good"], clustered(4, LARGE.dim)[0].tobytes())
    await database.close()
    assert ask(postgres_url, f"SELECT document FROM {SCHEMA}.texts") == [("a\ufffdb",)]
    await store.close()
    elsewhere = await opened(store_settings(tmp_path, postgres_url))
    assert elsewhere.with_records() is None, "by its settings it is another place"
    await elsewhere.close()
