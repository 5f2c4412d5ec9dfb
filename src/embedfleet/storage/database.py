"""The SQL database as asyncio sees it: one writer with group commit, readers beside it.

Repositories are plain functions over a SQLAlchemy `Connection`; a caller passes a closure of them to
`write` (one atomic unit) or `read`, so a transaction's borders are visible where the decision is made::

    job_id = await database.write(lambda conn: jobs.create(conn, ...))

SQLite has one writer at a time. All writes of a process go through one thread which runs whatever is
waiting in one transaction: with `synchronous=full` the disk flush is shared by everybody who waits for it.
If a unit fails, the transaction is undone and each unit of it is run again alone. It starts with BEGIN
IMMEDIATE: a deferred one that reads first fails with BUSY_SNAPSHOT whatever the timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from loguru import logger
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from embedfleet.errors import ConfigError, DatabaseUnavailable, EmbedfleetError, StorageFull
from embedfleet.storage import migrations

T = TypeVar("T")

# Units that share one commit. Bounds how long the first of them waits for the last.
_MAX_GROUP = 64
_READERS = 4
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Unit:
    """One atomic piece of work waiting for the writer."""

    work: Callable[[Connection], Any]
    outcome: Future[Any]


class Database:
    """SQLite in WAL mode. Safe to use from any number of tasks of one event loop.

    Any method may raise DatabaseUnavailable (locked for longer than the timeout, file gone) or
    StorageFull; then nothing of the unit was kept.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout_seconds: float = 30.0,
    ) -> None:
        if make_url(url).get_backend_name() != "sqlite":
            raise ConfigError(
                f"database.url: `{make_url(url).get_backend_name()}` is not supported by this release; "
                "use sqlite:///PATH or leave it empty"
            )
        self.location = make_url(url).database or ":memory:"
        pragmas = (f"synchronous={synchronous}", f"busy_timeout={int(busy_timeout_seconds * 1000)}")
        self._writer_engine = _engine(url, pragmas, begin="BEGIN IMMEDIATE", connections=1)
        self._reader_engine = _engine(url, (*pragmas, "query_only=1"), begin="BEGIN", connections=_READERS)
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="sql-writer", daemon=True)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sql-reader")
        self._version = 0
        self._changed = asyncio.Event()
        self._waiting = 0
        self._closed = False

    async def open(self) -> None:
        """Create or upgrade the schema and start the writer."""
        self._loop = asyncio.get_running_loop()
        await self._in_reader(self._prepare)
        self._writer.start()
        self._watch = asyncio.create_task(self._watch_others(), name="sql-watcher")

    def _prepare(self) -> None:
        with _mapped(self.location):
            migrations.upgrade(self._writer_engine)
            # A bare connection: in a transaction of SQLAlchemy's it would see one snapshot for ever.
            self._watcher = self._reader_engine.raw_connection()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one atomic unit; durable on return.

        It runs on another thread, perhaps more than once (what it did before is undone then), so it must
        change nothing but the database. An exception it raises undoes the unit and comes back here.
        """
        if self._closed:
            raise DatabaseUnavailable(f"{self.location}: the database is closed")
        outcome: Future[T] = Future()
        self._units.put(_Unit(work, outcome))
        # Shielded: a cancelled waiter must not leave the writer with a future it may no longer set.
        return await asyncio.shield(asyncio.wrap_future(outcome))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot; it sees every write that returned before."""
        if self._closed:
            raise DatabaseUnavailable(f"{self.location}: the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_blocking, work)

    def read_blocking(self, work: Callable[[Connection], T]) -> T:
        """`read` for a thread that is not the event loop's."""
        with _mapped(self.location), self._reader_engine.begin() as conn:
            return work(conn)

    async def version(self) -> int:
        """A number that grows whenever a write of anybody, in this process or another, has been noticed.

        Take it before looking, and `wait_for_write` with it: no write can slip in between.
        """
        return self._version

    async def wait_for_write(self, seen: int, *, timeout_seconds: float) -> int:
        """Return the version as soon as it is not `seen`, or after the timeout. Writes of this process
        wake it at once, those of others within 50 ms; any number of tasks may wait."""
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    while self._version == seen:
                        await self._changed.wait()
        finally:
            self._waiting -= 1
        return self._version

    def _note_write(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _watch_others(self) -> None:
        """SQLite tells of other processes' commits only when asked; ask while somebody waits."""
        known: int | None = None
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self._waiting:
                try:
                    found = await self._in_reader(self._data_version)
                except EmbedfleetError as exc:
                    logger.warning("cannot look for writes of other processes: {}", exc)
                    continue
                if found != known:
                    known = found
                    self._note_write()

    def _data_version(self) -> int:
        with _mapped(self.location):
            cursor = self._watcher.cursor()
            try:
                cursor.execute("PRAGMA data_version")
                (version,) = cursor.fetchall()[0]
                return int(version)
            finally:
                cursor.close()

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def close(self) -> None:
        """Finish the waiting writes and release every connection and thread. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._units.put(None)
        if self._writer.is_alive():
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        if hasattr(self, "_watcher"):
            self._watcher.close()
        self._reader_engine.dispose()
        self._writer_engine.dispose()

    # --- the writer thread ---

    def _write_loop(self) -> None:
        while (first := self._units.get()) is not None:
            group = [first]
            stop = False
            while len(group) < _MAX_GROUP and not self._units.empty():
                unit = self._units.get()
                if unit is None:
                    stop = True
                    break
                group.append(unit)
            self._commit(group)
            if stop:
                return

    def _commit(self, group: list[_Unit]) -> None:
        """One transaction for the group; if it fails, one for each unit, so that none undoes another."""
        try:
            with _mapped(self.location), self._writer_engine.begin() as conn:
                results = [unit.work(conn) for unit in group]
        except Exception as exc:  # noqa: BLE001 - handed to whoever waits, none is swallowed
            if len(group) == 1:
                group[0].outcome.set_exception(exc)
                return
            for unit in group:
                self._commit([unit])
            return
        for unit, result in zip(group, results, strict=True):
            unit.outcome.set_result(result)
        self._loop.call_soon_threadsafe(self._note_write)


def _engine(url: str, pragmas: tuple[str, ...], *, begin: str, connections: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=8,  # the watcher, and threads that read on their own
        hide_parameters=True,  # they hold document text, which must not reach a log
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    def prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        dbapi_connection.isolation_level = None  # pysqlite must not begin transactions of its own
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "temp_store=MEMORY", *pragmas):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda conn: conn.exec_driver_sql(begin))
    return engine


class _mapped:
    """Turns the driver's errors into ours, in one place."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _tb: object) -> None:
        if isinstance(exc, Exception):
            ours = _translate(exc, self._location)
            if ours is not exc:
                raise ours from exc


def _translate(exc: Exception, location: str) -> Exception:
    if not isinstance(exc, DBAPIError) or isinstance(exc, EmbedfleetError):
        return exc
    reason = str(exc.orig)
    if "disk is full" in reason or "disk I/O error" in reason:
        return StorageFull(f"{location}: {reason}; free some space and run again, nothing stored is lost")
    if "readonly" in reason or "unable to open" in reason:
        return ConfigError(
            f"{location}: {reason}; check that the data directory exists and can be written, "
            "or choose another with --data-dir"
        )
    if isinstance(exc.orig, sqlite3.OperationalError):
        return DatabaseUnavailable(f"{location}: {reason}")
    if isinstance(exc.orig, sqlite3.DatabaseError) and "not a database" in reason:
        return ConfigError(f"{location}: {reason}; move the file away or choose another --data-dir")
    return exc
