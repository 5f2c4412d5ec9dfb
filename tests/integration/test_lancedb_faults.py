"""What LanceDB does when a call is cancelled, loses a commit, or ends half-way."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import lance
import pytest
from lance.optimize import Compaction

from embedfleet.settings import load_settings
from embedfleet.vectors.lancedb.kind import open_for_queries, open_store
from embedfleet.vectors.lancedb.store import LanceVectorStore
from embedfleet.vectors.lancedb.table import LanceTable
from embedfleet.vectors.lancedb.upkeep import UpkeepLimits
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows
from support.clusters import clustered
from support.hangs import HANG_SECONDS
from support.stores import overrides

DIM = 16
BOOKS = TenantSpace("acme", "books", DIM)
LIMITS = UpkeepLimits(
    rows_of_a_file=1_000, surplus_files=4, index_from_rows=500, partition_rows=64, searched_rows=256
)
INDEXES = {"vectors", "collections", "keys"}


def rows(ids: list[str], text: str = "text") -> VectorRows:
    return VectorRows(ids, clustered(len(ids), DIM), [{"job_id": "j"}] * len(ids), [text] * len(ids))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lancedb"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LanceVectorStore]:
    """With an empty collection of books."""
    opened = await LanceVectorStore.open(str(root), shared=True, limits=LIMITS)
    await opened.ensure_collection(BOOKS)
    yield opened
    await opened.close()


def table_of(store: LanceVectorStore) -> LanceTable:
    (table,) = store._tables.values()
    return table


def indexes(store: LanceVectorStore) -> set[str]:
    version = table_of(store).latest()
    assert version is not None
    return {one.name for one in version.describe_indices()}


def lost_commit(*_given: Any, **_more: Any) -> Any:
    raise OSError("Retryable commit conflict for version 5: preempted by a concurrent transaction")


def held_bytes(root: Path) -> bytes:
    return b"".join(file.read_bytes() for file in root.rglob("data/*.lance"))


def remove_files_of_indexes(root: Path) -> None:
    for index in root.glob("books-*.lance/_indices/*"):
        shutil.rmtree(index)


async def tended(store: LanceVectorStore) -> None:
    while await store.debt() != StoreDebt():
        await store.tend()


async def test_rows_of_a_cancelled_call_are_written_in_their_turn_and_never_later(
    store: LanceVectorStore,
) -> None:
    """Written later, with rows of another tenant, they would come back after their deletion."""
    go_on = threading.Event()
    busy = store._submit(store._writing, lambda: go_on.wait(HANG_SECONDS))
    writing = asyncio.create_task(store.upsert(BOOKS, rows(["late"])))
    async with asyncio.timeout(HANG_SECONDS):
        while not store._waiting.get(BOOKS.space):  # noqa: ASYNC110 - a thread encodes them
            await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    deleting = asyncio.create_task(store.delete(BOOKS, ["late"]))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wrap_future(busy)
    await deleting
    await store.upsert(BOOKS, rows(["another"]))
    assert (await store.vectors(BOOKS, ["late", "another"]))[0] == ["another"]


async def test_a_merge_that_loses_against_a_deletion_leaves_no_file_with_the_deleted_text(
    store: LanceVectorStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lance itself leaves the file for a week. The other store stands for another process."""
    other = await LanceVectorStore.open(str(root), shared=True, limits=LIMITS)
    for number in range(8):
        await store.upsert(BOOKS, rows([f"{number}"], f"secret {number}"))
    deleted = threading.Event()
    loop, commit = asyncio.get_running_loop(), Compaction.commit

    def commit_after_a_deletion(*given: Any) -> Any:
        if not deleted.is_set():
            deleted.set()
            asyncio.run_coroutine_threadsafe(other.delete(BOOKS, ["0"]), loop).result(HANG_SECONDS)
        return commit(*given)

    monkeypatch.setattr(Compaction, "commit", staticmethod(commit_after_a_deletion))
    await store.tend()
    assert deleted.is_set()
    await other.forget_deleted(BOOKS)
    held = held_bytes(root)
    assert b"secret 0" not in held
    assert b"secret 1" in held
    await other.close()


async def test_a_search_removes_no_file_that_its_owner_may_be_writing(tmp_path: Path) -> None:
    """Searches of other processes open the data directory too."""
    settings = load_settings(environ={}, overrides=overrides(tmp_path, kind="lancedb"))
    owner = await open_store(settings)
    await owner.ensure_collection(BOOKS)
    [table] = (settings.data_dir / "lancedb").glob("books-*.lance")
    (table / "data").mkdir(exist_ok=True)
    uncommitted = table / "data" / "0101010101010101010101010101010101010101.lance"
    uncommitted.write_bytes(b"being written")
    search = await open_for_queries(settings)
    assert await search.count(BOOKS) == 0
    await search.close()
    await owner.close()
    assert uncommitted.exists()


@pytest.mark.parametrize("stopped_at", ["create_scalar_index", "create_index"])
async def test_indexes_that_were_built_half_way_are_completed(
    store: LanceVectorStore, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    await store.upsert(BOOKS, rows([f"{n}" for n in range(600)]))
    with monkeypatch.context() as patched:
        patched.setattr(lance.LanceDataset, stopped_at, lost_commit)
        await store.tend()
    assert indexes(store) != INDEXES
    assert await store.debt() != StoreDebt(), "what is not done is still told"
    await tended(store)
    assert indexes(store) == INDEXES


async def test_an_index_that_was_not_built_again_is_still_due(
    store: LanceVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that has grown eightfold needs more partitions."""
    await store.upsert(BOOKS, rows([f"{n}" for n in range(600)]))
    await tended(store)
    await store.upsert(BOOKS, rows([f"more {n}" for n in range(5_000)]))
    with monkeypatch.context() as patched:
        patched.setattr(lance.LanceDataset, "create_index", lost_commit)
        await store.tend()
    await tended(store)
    version = table_of(store).latest()
    assert version is not None
    [index] = version.stats.index_stats("vectors")["indices"]
    assert index["num_partitions"] == 5_600 // LIMITS.partition_rows


async def test_an_index_without_its_files_is_no_index_and_is_built_again(
    store: LanceVectorStore, root: Path
) -> None:
    vectors = clustered(600, DIM)
    await store.upsert(BOOKS, rows([f"{n}" for n in range(600)]))
    await tended(store)
    await store.close()
    remove_files_of_indexes(root)
    again = await LanceVectorStore.open(str(root), shared=True, limits=LIMITS)
    await tended(again)
    assert [hit.id for hit in await again.query(BOOKS, vectors[7], limit=1)] == ["7"]
    assert await again.count(BOOKS) == 600
    await again.close()


async def test_files_are_merged_while_an_index_is_built(
    store: LanceVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index of millions of rows takes many minutes: by then files would have gathered past the limit."""
    monkeypatch.setattr("embedfleet.vectors.lancedb.store._BUILDING_SECONDS", 0.0)
    go_on, build = threading.Event(), lance.LanceDataset.create_index

    def held_up(*given: Any, **more: Any) -> Any:
        assert go_on.wait(HANG_SECONDS)
        return build(*given, **more)

    monkeypatch.setattr(lance.LanceDataset, "create_index", held_up)
    await store.upsert(BOOKS, rows([f"{n}" for n in range(600)]))
    await store.tend()
    for number in range(8):
        await store.upsert(BOOKS, rows([f"new {number}"]))
    assert (await store.debt()).surplus_files >= LIMITS.surplus_files
    await store.tend()
    assert (await store.debt()).surplus_files == 0
    go_on.set()
    await tended(store)
    assert indexes(store) == INDEXES, "the merge was of other files, so the index is not lost"
    assert await store.count(BOOKS) == 608
