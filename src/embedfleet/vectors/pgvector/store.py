"""The vector store in PostgreSQL, with the extension pgvector.

psycopg's calls block, so they run on a few threads, each with a connection of its own. A connection that was
lost is opened again by the next call.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import IsolationLevel

from embedfleet.errors import InvalidRequest, Permanent, VectorStoreUnavailable
from embedfleet.vectors.pgvector import rows as stored
from embedfleet.vectors.pgvector import schema, upkeep
from embedfleet.vectors.pgvector.errors import mapped
from embedfleet.vectors.pgvector.rows import encoded
from embedfleet.vectors.pgvector.schema import SCHEMA, Extension, Run
from embedfleet.vectors.pgvector.search import nearest
from embedfleet.vectors.pgvector.wire import adapt
from embedfleet.vectors.pgvector.within import PgvectorWithRecords
from embedfleet.vectors.port import (
    CollectionKey,
    CommitsWithRecords,
    Hit,
    Metadata,
    StoreDebt,
    VectorRows,
    VectorStore,
)

_T = TypeVar("_T")

_CONNECTIONS = 4
_CONNECT_SECONDS = 10
_UNLIMITED = 0.0
# How long a server has to end the work of a call that was cancelled, before its connection is cut.
_CANCEL_SECONDS = 5.0
# A process that is stopped in the midst of a write must not keep its locks.
_IDLE_IN_TRANSACTION_SECONDS = 10
# A look whether a collection has grown costs up to a millisecond: about one for this many rows written.
_ROWS_PER_LOOK = 2_000


class PgvectorStore(VectorStore):
    """Any number of processes may use one database. Cancelling a call stops the waiting but not the write."""

    def __init__(
        self, address: Mapping[str, Any], place: str, *, timeout_seconds: float, beside_records: bool
    ) -> None:
        """Create a store that is not open yet. Use `open` to get an open one."""
        self._address = address
        self._place = place
        self._timeout_seconds = timeout_seconds
        self._beside_records = beside_records
        self._threads = ThreadPoolExecutor(_CONNECTIONS + 1, thread_name_prefix="pgvector")
        self._local = threading.local()
        self._connections: set[psycopg.Connection[Any]] = set()
        self._extension: Extension | None = None
        self._random = random.Random()
        self._expects_mark = False
        self._closed = False

    @classmethod
    async def open(
        cls,
        address: Mapping[str, Any],
        place: str,
        *,
        timeout_seconds: float = 60.0,
        beside_records: bool = False,
    ) -> Self:
        """Connect by libpq's parameters `address`, and make the tables if they are missing.

        `beside_records`: this is the database that has the records, so rows can be committed with them.
        A statement that takes longer than `timeout_seconds` counts as failed. Raises ConfigError if the
        server refuses this user, lacks the extension, or has tables of another release;
        VectorStoreUnavailable if it cannot be reached.
        """
        store = cls(address, place, timeout_seconds=timeout_seconds, beside_records=beside_records)
        try:
            await store._on_thread(store._prepare, opening=True)
        except BaseException:
            await store.close()
            raise
        return store

    def name_in_store(self, collection: CollectionKey) -> str:
        return f"{SCHEMA}, collection of tenant {collection.tenant!r} and space {collection.space}"

    async def ensure_collection(self, collection: CollectionKey) -> None:
        await self._write(lambda run: stored.ensure(run, collection))

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        def write(run: Run) -> None:
            held, refused = encoded(rows)
            for reason in refused.values():
                raise Permanent(reason)
            stored.write(run, self._known(), collection, held)
            self.look_for_growth(run, collection, len(rows.ids))

        await self._write(write)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        await self._write(lambda run: stored.update_metadata(run, collection, ids, metadatas))

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        return await self._read(lambda run: stored.vectors(run, self._known(), collection, ids))

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        return dict(await self._read(lambda run: stored.ids_with(run, collection, key, values)))

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        await self._write(lambda run: stored.delete(run, collection, ids))

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        if limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        if not np.isfinite(vector).all():
            raise InvalidRequest("the query vector holds a value that is not finite")
        return await self._read(lambda run: nearest(run, self._known(), collection, vector, limit))

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield all rows in the order of their ids. An id never changes, so no write moves a row."""
        last: str | None = None
        while True:
            look = partial(stored.page_after, collection=collection, last=last, limit=page)
            ids, vectors = await self._read(lambda run, look=look: look(run, self._known()))  # type: ignore[misc]
            if ids:
                yield ids, vectors
            if len(ids) < page:
                return
            last = ids[-1]

    async def count(self, collection: CollectionKey) -> int:
        return await self._read(lambda run: stored.count(run, collection))

    async def drop_collection(self, collection: CollectionKey) -> None:
        await self._write(lambda run: upkeep.drop(run, collection))

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        """Vacuum the tables that have the collections. It waits for transactions older than the deletion.

        What was deleted also was in the server's write-ahead log, which the server recycles, and in its
        backups.
        """
        found = await self._read(lambda run: [schema.find(run, collection) for collection in collections])
        # The rows of a collection were in the tables of all, before it got its own and if it was dropped.
        own = [entry for entry in found if entry is not None and entry.own_tables]
        entries = [schema.SHARED, *own]
        tables = [table for one in entries for table in (one.texts, one.vectors)]
        await self._alone(lambda connection: upkeep.vacuum(connection, tables, seconds=self._timeout_seconds))

    def with_records(self) -> CommitsWithRecords | None:
        if not self._beside_records:
            return None
        return PgvectorWithRecords(self._known(), self.look_for_growth)

    async def debt(self) -> StoreDebt:
        return StoreDebt(unindexed_rows=await self._read(upkeep.unindexed_rows))

    async def tend(self) -> None:
        """Give tables of their own to collections that have grown, and index the rows of one collection.

        If another process tends the store, nothing is done. A cancelled call stops the server's work too. A
        collection that fails holds up no other: the first failure is raised when all were tried.
        """
        await self._alone(self._tend)

    def not_forgotten(self) -> str | None:
        return "the write-ahead log of PostgreSQL has deleted texts until the server recycles it"

    def expect_mark(self) -> None:
        self._expects_mark = True

    async def mark(self) -> str | None:
        return await self._on_thread(lambda: self._transact(stored.mark, reading=True))

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return await self._on_thread(
            lambda: self._transact(lambda run: stored.claim_mark(run, mark, replacing), reading=False)
        )

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def look_for_growth(self, run: Run, collection: CollectionKey, written: int) -> None:
        """Note that a collection has grown. By chance: so it is noticed, whichever processes write it."""
        if self._random.random() * _ROWS_PER_LOOK < written:
            stored.note_growth(run, collection)

    def _known(self) -> Extension:
        assert self._extension is not None, "opened by `open`"
        return self._extension

    async def _read(self, work: Callable[[Run], _T]) -> _T:
        return await self._on_thread(lambda: self._transact(self._marked(work), reading=True))

    async def _write(self, work: Callable[[Run], _T]) -> _T:
        return await self._on_thread(lambda: self._transact(self._marked(work), reading=False))

    def _marked(self, work: Callable[[Run], _T]) -> Callable[[Run], _T]:
        """Return work that fails if the mark of the system should be in the same snapshot and is not."""

        def marked(run: Run) -> _T:
            answer = work(run)
            if self._expects_mark and stored.mark(run) is None:
                raise VectorStoreUnavailable(
                    f"the vector store in {self._place} has no mark of its system: it was emptied, or "
                    "another database is there now"
                )
            return answer

        return marked

    async def _alone(self, work: Callable[[psycopg.Connection[Any]], None]) -> None:
        """Run what needs a connection of its own, whose statements commit by themselves and may take long."""
        connection = await self._on_thread(lambda: self._connect(_UNLIMITED))
        connection.autocommit = True
        working = self._on_thread(lambda: work(connection))
        try:
            await asyncio.shield(working)
        finally:
            await asyncio.shield(self._ended(connection, working))

    async def _ended(self, connection: psycopg.Connection[Any], working: asyncio.Future[None]) -> None:
        """Return when nothing runs on the connection any more, and it is closed."""
        if not working.done():  # cancelled, and the thread waits for the server: this ends both
            with suppress(psycopg.Error):  # a server that has vanished does nothing for us any more
                await asyncio.to_thread(connection.cancel_safe, timeout=_CANCEL_SECONDS)
            await asyncio.wait([working], timeout=_CANCEL_SECONDS)
        await asyncio.to_thread(self._disconnect, connection)

    def _on_thread(self, call: Callable[[], _T], *, opening: bool = False) -> asyncio.Future[_T]:
        """Start the call. Who waits for it may be cancelled: it goes on."""
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store in {self._place} is closed")
        return asyncio.shield(asyncio.wrap_future(self._threads.submit(self._mapped, call, opening)))

    # --- on a thread ---

    def _mapped(self, call: Callable[[], _T], opening: bool) -> _T:
        try:
            return call()
        except Exception as exc:
            ours = mapped(exc, self._place, opening=opening)
            if ours is exc:
                raise
            raise ours from exc

    def _prepare(self) -> None:
        self._extension = schema.prepare(self._connection(), self._place)

    def _tend(self, connection: psycopg.Connection[Any]) -> None:
        run = partial(run_on, connection)
        if not schema.try_to_tend(run):
            return
        failures: list[psycopg.Error] = []
        try:
            for number, identity in upkeep.crowded(run):
                try:
                    with connection.transaction():
                        upkeep.give_own_tables(run, self._known(), number, identity)
                except psycopg.errors.QueryCanceled:
                    raise  # the call was cancelled
                except psycopg.Error as exc:
                    failures.append(exc)
            self._index(connection, failures)
        finally:
            if not connection.closed:  # else the lock is gone with it
                schema.end_tending(run)
        if failures:
            raise failures[0]

    def _index(self, connection: psycopg.Connection[Any], failures: list[psycopg.Error]) -> None:
        """Index a collection: the one with the most rows that are in no index, unless that fails."""
        run = partial(run_on, connection)
        waiting = upkeep.rows_to_index(run)
        for number in sorted(waiting, key=lambda one: -waiting[one]):
            try:
                upkeep.drop_leftovers(connection, number)
                building = upkeep.next_building(run, number)
                if building is not None:
                    upkeep.build(connection, self._known(), building)
                    upkeep.drop_leftovers(connection, number)
                    return
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.Error as exc:
                failures.append(exc)

    def _transact(self, work: Callable[[Run], _T], *, reading: bool) -> _T:
        """Run the work in one transaction. A reader has one snapshot for all of its statements.

        A connection that was idle may have been lost since, so then the work runs again on a new one.
        """
        held = getattr(self._local, "connection", None)
        connection = self._connection()
        try:
            return _in_transaction(connection, work, reading=reading)
        except psycopg.OperationalError:
            if connection is not held or not connection.closed:
                raise
        return _in_transaction(self._connection(), work, reading=reading)

    def _connection(self) -> psycopg.Connection[Any]:
        """Return the connection of this thread, opened again if it was lost."""
        held: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if held is not None and not held.closed:
            return held
        if held is not None:
            self._connections.discard(held)
        opened = self._connect(self._timeout_seconds)
        self._local.connection = opened
        return opened

    def _connect(self, statement_seconds: float) -> psycopg.Connection[Any]:
        opened = psycopg.connect(**connect_parameters(self._address), prepare_threshold=None)
        self._connections.add(opened)
        adapt(opened)
        for statement in _session(statement_seconds):
            opened.execute(statement.encode())
        opened.commit()
        return opened

    def _disconnect(self, connection: psycopg.Connection[Any]) -> None:
        connection.close()
        self._connections.discard(connection)


def _in_transaction(connection: psycopg.Connection[Any], work: Callable[[Run], _T], *, reading: bool) -> _T:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ if reading else IsolationLevel.READ_COMMITTED
    with connection.transaction():
        return work(partial(run_on, connection))


def _session(statement_seconds: float) -> Sequence[str]:
    # By statements, not by libpq's `options`, which poolers such as PgBouncer do not pass on.
    return (
        f"SET statement_timeout = {round(statement_seconds * 1000)}",
        f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION_SECONDS * 1000}",
        # Compiling a statement takes longer than to compare some thousand vectors.
        "SET jit = off",
    )


def connect_parameters(address: Mapping[str, Any]) -> dict[str, Any]:
    """Return `address` with what notices in time that a server has vanished."""
    return {
        "application_name": "embedfleet vectors",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 5,
        "keepalives_interval": 1,
        "keepalives_count": 5,
        "tcp_user_timeout": 10_000,
        **address,
    }


def run_on(connection: psycopg.Connection[Any], statement: str, parameters: Sequence[Any]) -> list[Any]:
    """Run a statement in the transaction of this connection: a `schema.Run`."""
    cursor = connection.cursor(binary=True)
    cursor.execute(statement.encode(), parameters)
    return cursor.fetchall() if cursor.description else []
