"""The vector store port over LanceDB.

Lance's calls block, outside the interpreter's lock. Reads run on a few threads. Writes of this process run on
one thread: what waits for it is written together, whatever tenants it is of, since a commit takes as long for
one row as for a thousand.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from embedfleet.errors import ConfigError, InvalidRequest, VectorStoreUnavailable
from embedfleet.paging import pages
from embedfleet.vectors.lancedb.errors import store_error
from embedfleet.vectors.lancedb.layout import (
    MARK_TABLE,
    SPACES_TABLE,
    collection_digest,
    key_digest,
    table_name,
    table_of,
)
from embedfleet.vectors.lancedb.marks import LanceMark
from embedfleet.vectors.lancedb.spaces import LanceSpaces
from embedfleet.vectors.lancedb.table import LanceTable
from embedfleet.vectors.lancedb.upkeep import (
    IndexWork,
    UpkeepLimits,
    index_work,
    surplus_files,
    unindexed_rows,
)
from embedfleet.vectors.lancedb.versions import VECTOR_INDEX
from embedfleet.vectors.port import (
    CollectionKey,
    Hit,
    Metadata,
    StoreDebt,
    TenantSpace,
    VectorRows,
    VectorStore,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from lance import Session

T = TypeVar("T")

_READING_THREADS = 4
# How long an old version stays, for those who still read it. Other processes may be slower than this one.
_VERSIONS_KEPT = timedelta(minutes=1)
_VERSIONS_KEPT_IF_SHARED = timedelta(minutes=10)
# How long one call of `tend` goes on to merge, and how long it waits for an index.
_MERGING_SECONDS = 20.0
_BUILDING_SECONDS = 5.0
# Rows of one commit. More would only make those wait who wrote first.
_MOST_ROWS_OF_A_COMMIT = 20_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows that wait for the thread that writes. `written` ends when they are written, or says why not."""

    rows: pa.Table
    written: Future[None] = field(default_factory=Future)


class LanceVectorStore(VectorStore):
    """The store in a directory or an object store. Cancelling a call stops the waiting but not the write."""

    def __init__(self, root: str, *, shared: bool, limits: UpkeepLimits | None = None) -> None:
        """Create a store that is not open yet. Use `open` to get an open one."""
        self._root = root
        self._limits = limits or UpkeepLimits()
        self._shared = shared
        self._reading = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="lancedb")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="lancedb-writes")
        # An index takes long to build, and no write waits for it.
        self._indexing = ThreadPoolExecutor(1, thread_name_prefix="lancedb-indexes")
        self._tables: dict[str, LanceTable] = {}
        self._waiting: dict[str, list[_Waiting]] = {}
        self._lock = threading.Lock()
        self._mark = LanceMark(f"{root}/{MARK_TABLE}.lance")
        self._spaces = LanceSpaces(f"{root}/{SPACES_TABLE}.lance")
        self._being_built: tuple[LanceTable, Future[None]] | None = None
        self._session: Session | None = None
        self._expects_mark = False
        self._closed = False

    @classmethod
    async def open(cls, root: str, *, shared: bool, limits: UpkeepLimits | None = None) -> Self:
        """Open or create the store below `root`: a directory, or the URL of an object store.

        `shared`: other processes may write to it at the same time. Otherwise the caller owns it until `close`
        has returned. Raises ConfigError if the library is missing or the directory cannot be made,
        VectorStoreUnavailable if the place cannot be read.
        """
        store = cls(root, shared=shared, limits=limits)
        try:
            await store._read(store._prepare)
            if not shared:
                await store._write(store._remove_leftovers)
        except BaseException:
            await store.close()
            raise
        return store

    def name_in_store(self, collection: CollectionKey) -> str:
        return f"{collection.tenant} in {table_name(collection.space)}"

    async def ensure_collection(self, collection: CollectionKey) -> None:
        table = self._table(collection)

        def ensure() -> None:
            table.ensure(collection.dim)
            self._spaces.add(collection.space)

        await self._read(ensure)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        if not rows.ids:
            return
        table = self._table(collection)
        waiting = _Waiting(await self._read(lambda: self._prepared(table, collection, rows)))
        with self._lock:
            self._waiting.setdefault(collection.space, []).append(waiting)
        await self._write(lambda: self._write_waiting(collection.space, table))
        await asyncio.wrap_future(waiting.written)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        table, wanted = self._table(collection), dict(zip(ids, metadatas, strict=True))
        await self._write(lambda: table.replace_metadata(collection.tenant, wanted))

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        table = self._table(collection)
        return await self._read(lambda: table.vectors(collection.tenant, ids))

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        table = self._table(collection)
        return await self._read(lambda: table.ids_with(collection.tenant, key, values))

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        table = self._table(collection)
        await self._write(lambda: table.delete(collection.tenant, ids))

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        for table in {self._table(collection) for collection in collections}:
            await self._write(table.forget_deleted)

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        if limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        if not np.isfinite(vector).all():
            raise InvalidRequest("the query vector holds a value that is not finite")
        table = self._table(collection)
        return await self._read(lambda: table.nearest(collection.tenant, vector, limit))

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        table = self._table(collection)
        # All ids first, then pages by id: a version that is read for long may be removed in between.
        for part in pages(await self._read(lambda: table.ids(collection.tenant)), page):
            ids, vectors = await self.vectors(collection, part)
            if ids:
                yield ids, vectors

    async def drop_collection(self, collection: CollectionKey) -> None:
        table = self._table(collection)
        await self._write(lambda: table.delete_all(collection.tenant))

    async def count(self, collection: CollectionKey) -> int:
        table = self._table(collection)
        return await self._read(lambda: table.count(collection.tenant))

    async def debt(self) -> StoreDebt:
        return await self._read(self._debt)

    async def tend(self) -> None:
        """Merge small files and remove old versions of all tables, and go on with an index of one table.

        An index may take many minutes. It is built beside the calls that merge: each waits for it for some
        seconds. What a commit of another process was in the way of is left for the next time.
        """
        give_up_at = monotonic() + _MERGING_SECONDS
        to_index: list[tuple[int, LanceTable, IndexWork]] = []
        for table in await self._read(self._all_tables):
            state = await self._read(table.state)
            while state is not None and table.mergeable_files(state) and monotonic() < give_up_at:
                if not await self._write(table.merge_files):
                    break
                await self._remove_old_versions(table)
                state = await self._read(table.state)
            if state is None or table.mergeable_files(state):
                continue  # an index is quicker to build of merged files
            if (work := index_work(state, VECTOR_INDEX, self._limits)) is not IndexWork.NONE:
                to_index.append((unindexed_rows(state, VECTOR_INDEX, self._limits), table, work))
        if self._being_built is None and to_index:
            _, table, work = max(to_index, key=lambda one: one[0])
            self._being_built = table, self._submit(self._indexing, partial(table.index, work))
        await self._go_on_building()

    async def _go_on_building(self) -> None:
        """Wait a little for the index that is being built. Raises what its building raised."""
        if self._being_built is None:
            return
        table, building = self._being_built
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        building.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _BUILDING_SECONDS)
        if building.done():
            self._being_built = None
            building.result()
            await self._remove_old_versions(table)

    async def _remove_old_versions(self, table: LanceTable) -> None:
        kept = _VERSIONS_KEPT_IF_SHARED if self._shared else _VERSIONS_KEPT
        await self._write(partial(table.remove_old_versions, kept))

    def not_forgotten(self) -> str | None:
        if not self._shared:
            return None
        left = (
            f"a process that was killed while it wrote to {self._root} may have left a file with deleted "
            "texts: it is removed after seven days"
        )
        kept = "; a bucket that keeps versions of its objects, or copies of deleted ones, keeps deleted texts"
        return left + kept if "://" in self._root else left

    def expect_mark(self) -> None:
        self._expects_mark = True

    async def mark(self) -> str | None:
        return await self._read(self._mark.read)

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return await self._write(lambda: self._mark.claim(mark, replacing=replacing))

    async def close(self) -> None:
        """Wait for calls that still run, also for writes whose callers were cancelled."""
        self._closed = True
        await asyncio.to_thread(self._end)

    # --- on threads ---

    async def _read(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._submit(self._reading, call))

    async def _write(self, call: Callable[[], T]) -> T:
        # Shielded: if its caller is cancelled while it waits, it is still done in its turn.
        return await asyncio.shield(asyncio.wrap_future(self._submit(self._writing, call)))

    def _submit(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store in {self._root} is closed")
        return threads.submit(self._mapped, call)

    def _mapped(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except BaseException as exc:
            ours = store_error(exc, self._root)
            if ours is exc:
                raise
            raise ours from exc

    def _table(self, collection: CollectionKey) -> LanceTable:
        with self._lock:
            if collection.space not in self._tables:
                uri = f"{self._root}/{table_name(collection.space)}.lance"
                assert self._session is not None, "opened by `open`"
                self._tables[collection.space] = LanceTable(
                    uri,
                    collection.space,
                    limits=self._limits,
                    session=self._session,
                    require_place=self._require_place,
                )
            return self._tables[collection.space]

    def _require_place(self) -> None:
        """Raise VectorStoreUnavailable if the mark of the system should be here and is not."""
        if self._expects_mark and self._mark.read() is None:
            raise VectorStoreUnavailable(
                f"the vector store in {self._root} has no mark of its system: it was emptied, or another "
                "place is there now, such as a mount point without its mount"
            )

    def _remove_leftovers(self) -> None:
        """Remove what a killed owner has left. Before any other call: it might be in the midst of a write."""
        for table in self._all_tables():
            try:
                table.remove_leftovers()
            except Exception as exc:  # noqa: BLE001 - the store works with them
                logger.warning(
                    "files that a killed process left uncommitted are not removed: {}",
                    store_error(exc, self._root),
                )

    def _all_tables(self) -> list[LanceTable]:
        """Return the tables of all spaces that have one, whether this process has used them or not."""
        spaces = self._spaces.read()
        if not spaces:
            self._require_place()
        for space in spaces:
            self._table(TenantSpace("", space, 1))
        with self._lock:
            return list(self._tables.values())

    def _debt(self) -> StoreDebt:
        states = [state for table in self._all_tables() if (state := table.state()) is not None]
        return StoreDebt(
            surplus_files=sum(surplus_files(state, self._limits) for state in states),
            unindexed_rows=sum(unindexed_rows(state, VECTOR_INDEX, self._limits) for state in states),
        )

    def _prepare(self) -> None:
        os.environ.setdefault("LANCE_LOG", "error")  # it warns on the terminal, of nothing that users can do
        os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")  # statistics are short without them
        try:
            import lance
        except ImportError as exc:
            raise ConfigError(
                f"LanceDB needs pylance ({exc}): install the extra `lancedb` of embedfleet"
            ) from exc
        if "://" not in self._root:
            try:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise ConfigError(
                    f"the directory {self._root} of the vector store cannot be made: {exc.strerror}"
                ) from exc
        self._session = lance.Session()
        self._mark.read()  # whether the place answers

    def _prepared(self, table: LanceTable, collection: CollectionKey, rows: VectorRows) -> pa.Table:
        """Return the rows as they are written. Raises what `upsert` raises for what they are."""
        version = table.latest()
        if version is None:
            raise VectorStoreUnavailable(
                f"collection {self.name_in_store(collection)} is not there: ensure it, then write again"
            )
        table.require_dim(version, rows.vectors.shape[1])
        texts: Sequence[str | None] | None = rows.documents
        if texts is None:
            mine = collection_digest(collection.tenant)
            held = table.texts([key_digest(mine, row_id) for row_id in rows.ids])
            texts = [held.get(key_digest(mine, row_id)) for row_id in rows.ids] if held else None
        return table_of(collection, rows, texts)

    def _write_waiting(self, space: str, table: LanceTable) -> None:
        """Write all rows of a space that wait by now. Those of a later call may have gone with an earlier."""
        with self._lock:
            waiting = self._waiting.get(space, [])
            rows, chosen = 0, 0
            while chosen < len(waiting) and (
                not chosen or rows + len(waiting[chosen].rows) <= _MOST_ROWS_OF_A_COMMIT
            ):
                rows += len(waiting[chosen].rows)
                chosen += 1
            together, self._waiting[space] = waiting[:chosen], waiting[chosen:]
        if not together:
            return
        try:
            self._mapped(lambda: table.merge(_joined([one.rows for one in together])))
        except BaseException as exc:  # noqa: BLE001 - each caller raises it
            for one in together:
                one.written.set_exception(exc)
        else:
            for one in together:
                one.written.set_result(None)

    def _end(self) -> None:
        self._indexing.shutdown()
        self._writing.shutdown()
        self._reading.shutdown()
        self._tables.clear()


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables. Of rows of the same key, the last is in it."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    together = pa.concat_tables(tables)
    latest: Mapping[str, int] = {key: place for place, key in enumerate(together["key"].to_pylist())}
    return together if len(latest) == len(together) else together.take(list(latest.values()))
