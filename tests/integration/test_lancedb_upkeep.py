"""Files are merged and rows indexed while others write; several processes share one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.vectors.lancedb.store import LanceVectorStore
from embedfleet.vectors.lancedb.upkeep import UpkeepLimits
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows
from support.clusters import clustered
from support.s3_server import S3Bucket

DIM = 32
BOOKS = TenantSpace("acme", "books", DIM)
FEW = replace(BOOKS, tenant="few")
LIMITS = UpkeepLimits(
    rows_of_a_file=1_000, surplus_files=8, index_from_rows=2_000, partition_rows=256, searched_rows=1_024
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LanceVectorStore]:
    opened = await LanceVectorStore.open(str(tmp_path / "lancedb"), shared=False, limits=LIMITS)
    yield opened
    await opened.close()


async def write(store: LanceVectorStore, collection: TenantSpace, vectors: NDArray[np.float32]) -> None:
    await store.ensure_collection(collection)
    for start in range(0, len(vectors), 100):
        part = vectors[start : start + 100]
        ids = [f"{start + place}" for place in range(len(part))]
        await store.upsert(collection, VectorRows(ids, part, [{"job_id": "j"}] * len(part), ids))


async def tend(store: LanceVectorStore) -> None:
    while await store.debt() != StoreDebt():
        await store.tend()


async def bits(store: LanceVectorStore, collection: TenantSpace) -> dict[str, bytes]:
    return {
        row_id: vector.tobytes()
        async for ids, vectors in store.scan(collection)
        for row_id, vector in zip(ids, vectors, strict=True)
    }


async def recall(store: LanceVectorStore, collection: TenantSpace, vectors: NDArray[np.float32]) -> float:
    right = 0
    queries = clustered(40, DIM, seed=9)
    for query in queries:
        hits = await store.query(collection, query, limit=10)
        right += len({hit.id for hit in hits} & {f"{n}" for n in np.argsort(-(vectors @ query))[:10]})
    return right / (10 * len(queries))


async def test_upkeep_beside_writes_pays_the_debt_and_changes_no_row(store: LanceVectorStore) -> None:
    vectors, few = clustered(6_000, DIM), clustered(300, DIM, seed=2)
    written = asyncio.create_task(write(store, BOOKS, vectors))
    while not written.done():
        await store.tend()
        await asyncio.sleep(0)
    await written
    await write(store, FEW, few)
    before = await bits(store, BOOKS)
    await tend(store)
    (table,) = store._tables.values()
    state = table.state()
    assert state is not None
    assert len(state.files) < 30, "of 63 commits"
    assert state.trained_rows is not None
    assert await bits(store, BOOKS) == before == {f"{n}": vectors[n].tobytes() for n in range(6_000)}
    assert await recall(store, BOOKS, vectors) >= 0.95
    assert await recall(store, FEW, few) == 1, "few rows are all compared"


async def test_rows_that_change_after_they_were_indexed_are_found_as_they_are_now(
    store: LanceVectorStore,
) -> None:
    vectors = clustered(3_000, DIM)
    await write(store, BOOKS, vectors)
    await tend(store)
    moved = clustered(100, DIM, seed=7)
    await write(store, BOOKS, moved)  # the rows 0 to 99
    await store.update_metadata(BOOKS, ["200"], [{"media_id": "new"}])
    await store.delete(BOOKS, [f"{n}" for n in range(1_000, 1_500)])
    for row in (0, 50, 99):
        assert (await store.query(BOOKS, moved[row], limit=1))[0].id == f"{row}"
    assert (await store.query(BOOKS, vectors[200], limit=1))[0].id == "200"
    assert (await store.query(BOOKS, vectors[1_100], limit=1))[0].id != "1100"
    assert await store.ids_with(BOOKS, "media_id", ["new"]) == {"new": ["200"]}
    assert await store.count(BOOKS) == 2_500
    await store.forget_deleted(BOOKS)
    await tend(store)
    assert (await store.query(BOOKS, vectors[1_100], limit=1))[0].id != "1100"
    assert len((await store.vectors(BOOKS, [f"{n}" for n in range(3_000)]))[0]) == 2_500


async def test_debt_is_that_of_all_tables_whichever_process_wrote_them(
    store: LanceVectorStore, tmp_path: Path
) -> None:
    await write(store, BOOKS, clustered(1_000, DIM))
    other = await LanceVectorStore.open(str(tmp_path / "lancedb"), shared=True, limits=LIMITS)
    assert (await other.debt()).surplus_files == 9
    await other.tend()
    assert await other.debt() == await store.debt() == StoreDebt()
    await other.close()


@pytest.fixture(params=["in a directory", "on S3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that several processes may use."""
    if request.param == "on S3":
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        return bucket.url
    return str(tmp_path / "shared")


async def test_rows_that_two_write_at_the_same_time_are_there_once(root: str) -> None:
    """Each finds no row of the key. Without the check at the commit, each would add one."""
    stores = [await LanceVectorStore.open(root, shared=True) for _ in range(4)]  # as four processes would
    await stores[0].ensure_collection(BOOKS)
    vectors = clustered(20, DIM)
    laps = 2 if "://" in root else 10  # in a bucket, writers who meet take seconds to part
    for lap in range(laps):
        ids = [f"{lap}-{n}" for n in range(20)]
        rows = VectorRows(ids, vectors, [{"job_id": "j"}] * 20, None)
        await asyncio.gather(*(one.upsert(BOOKS, rows) for one in stores))
    seen = [row_id async for ids, _ in stores[0].scan(BOOKS) for row_id in ids]
    assert len(seen) == len(set(seen)) == await stores[0].count(BOOKS) == 20 * laps
    for one in stores:
        await one.close()


@pytest.mark.parametrize(
    "root", ["in a directory", pytest.param("on S3", marks=pytest.mark.slow)], indirect=True
)
async def test_writers_and_deleters_of_one_table_do_not_fail_each_other(root: str) -> None:
    """Lance merges commits, or tries them again; four stores stand for four processes."""
    stores = [await LanceVectorStore.open(root, shared=True, limits=LIMITS) for _ in range(4)]
    await stores[0].ensure_collection(BOOKS)
    vectors = clustered(50, DIM)

    async def work(number: int) -> None:
        mine = replace(BOOKS, tenant=f"tenant {number}")
        for lap in range(6):
            ids = [f"{lap}-{n}" for n in range(50)]
            await stores[number].upsert(mine, VectorRows(ids, vectors, [{"job_id": "j"}] * 50, None))
            await stores[number].delete(mine, ids[:25])
            await stores[number].tend()

    await asyncio.gather(*(work(number) for number in range(4)))
    counts = [await stores[0].count(replace(BOOKS, tenant=f"tenant {number}")) for number in range(4)]
    assert counts == [150] * 4
    for one in stores:
        await one.close()
