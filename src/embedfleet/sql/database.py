"""The SQL database for asyncio. It runs atomic units of work, and notices the writes of all processes.

The modules of `records` are plain functions over a SQLAlchemy `Connection`. A caller passes a function that
calls them to `write` (one atomic unit) or to `read`. So the caller's code shows where a transaction begins
and ends::

    await database.write(lambda conn: jobs.create(conn, [...]))

The URL chooses one of two engines: `sqlite` (one writer, group commit) or `postgresql` (a pool of
connections). SQLite runs write units one after the other. PostgreSQL runs them side by side, READ COMMITTED.
Units that must not interleave therefore take `document_lock`, which both engines know.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from concurrent.futures import Future
from typing import Literal, Protocol, TypeVar

from prometheus_client import Histogram
from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from embedfleet.errors import ConfigError, DatabaseUnavailable, EmbedfleetError
from embedfleet.metrics import Metrics
from embedfleet.metrics.series import timed
from embedfleet.retry import BackOff
from embedfleet.sql import document_lock
from embedfleet.sql.sole import SoleLock
from embedfleet.trouble import Trouble
from embedfleet.validation import HOW_TO_ENCODE, is_encoded
from embedfleet.waiting import cancel_and_wait, to_its_end

T = TypeVar("T")

# A write of another process is noticed within this time. One poll is one short query.
_POLL_SECONDS = 0.05
# The longest pause between two such looks while the database is away.
_LONGEST_POLL_SECONDS = 2.0


class SqlEngine(Protocol):
    """The part of `Database` that depends on the database system. No method needs an event loop.

    A failure raises (or sets on the future) an error of embedfleet's tree, or the unit's own exception.
    """

    location: str

    def open(self, committed: Callable[[], None]) -> None:
        """Connect, and check or upgrade the schema. This blocks.

        From then on the engine calls `committed` after each commit, on any thread.
        """

    def upgrade(self) -> tuple[str | None, str]:
        """Upgrade the schema to that of this release. This blocks, and needs no `open`.

        Returns (the revision before, the revision now).
        """

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Queue a unit, which runs in one transaction. It may run again after its transaction was undone."""

    def read(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Queue a unit. It runs on one snapshot and cannot write."""

    def change_mark(self) -> Future[Hashable]:
        """Return a value that changes with a commit of any process. It is only for comparisons."""

    def sole_lock(self, name: str) -> SoleLock:
        """Return the lock of this name of the whole database, which nothing holds yet by this object.

        `take` raises an error of embedfleet's tree if the database is away.
        """

    def close(self) -> None:
        """Finish the queued units, and free all connections and threads. This blocks.

        Call it after a failed `open` too.
        """


class Sole:
    """A lock that this process holds."""

    def __init__(self, lock: SoleLock, location: str) -> None:
        self._lock = lock
        self._location = location

    async def require(self) -> None:
        """Raise DatabaseUnavailable if the lock was lost with its connection. Then another may hold it."""
        if not await asyncio.to_thread(self._lock.held):
            raise DatabaseUnavailable(f"{self._location}: the connection that held a lock was lost")


class Database:
    """A database. Any number of tasks of one event loop may use it.

    Any method may raise DatabaseUnavailable or StorageFull. Then nothing of the unit was kept, with one
    exception: if the connection was lost during the commit, it is unknown whether the unit was kept. So a
    unit must be safe to repeat.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout_seconds: float = 30.0,
        pool_size: int = 8,
        connect_timeout_seconds: float = 5.0,
        seconds: Histogram | None = None,
    ) -> None:
        """Choose the engine by the URL.

        `synchronous` is for SQLite; `pool_size` and `connect_timeout_seconds` are for PostgreSQL. `seconds`
        is a histogram with the label `operation` (read or write). It observes how long units take, with the
        wait for their turn. Raises ConfigError for the URL of any other system.
        """
        parsed = _parse(url)
        system = parsed.get_backend_name()
        self._engine: SqlEngine
        if system == "sqlite":
            from embedfleet.sql.sqlite import SqliteEngine

            self._engine = SqliteEngine(
                parsed, synchronous=synchronous, busy_timeout_seconds=busy_timeout_seconds
            )
        elif system == "postgresql":
            from embedfleet.sql.postgresql import PostgresqlEngine

            self._engine = PostgresqlEngine(
                parsed,
                pool_size=pool_size,
                connect_timeout_seconds=connect_timeout_seconds,
                lock_timeout_seconds=busy_timeout_seconds,
            )
        else:
            raise ConfigError(
                f"database.url: `{system}` is not supported; use postgresql://USER@HOST/DATABASE, "
                "sqlite:///PATH, or leave it empty"
            )
        self._seconds = seconds or Metrics().sql_seconds
        self._writes_noticed = 0
        self._changed = asyncio.Event()
        self._waiting = 0
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def location(self) -> str:
        """Where the database is, for messages: without user and password."""
        return self._engine.location

    async def open(self) -> None:
        """Connect. This creates or upgrades SQLite's schema; PostgreSQL's must exist (see `upgrade_schema`).

        Raises ConfigError if the schema is missing, old or newer than this release.
        """
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._engine.open, lambda: _call_soon(loop, self._note_write))
        self._watch = asyncio.create_task(self._watch_others(), name="sql-watcher")

    async def upgrade_schema(self) -> tuple[str | None, str]:
        """Upgrade the schema to that of this release. The database must not be open.

        Returns (the revision before, the revision now). Concurrent callers, in any process, wait for one
        another.
        """
        return await asyncio.to_thread(self._engine.upgrade)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one atomic unit, which is durable when this returns.

        `work` runs on another thread, perhaps more than once; its earlier runs are undone. So it must change
        nothing but the database. An exception that it raises undoes the unit and is raised here.
        """
        self._require_open()

        def unit(conn: Connection) -> T:
            document_lock.begin(conn)
            return work(conn)

        # Shielded: the engine still sets the result of the unit, so a cancelled caller must not cancel that
        # future.
        with timed(self._seconds, "write"):
            return await asyncio.shield(asyncio.wrap_future(self._engine.write(unit)))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot that contains every write that returned before this call."""
        with timed(self._seconds, "read"):
            return await asyncio.wrap_future(self._queue_read(work))

    def read_blocking(self, work: Callable[[Connection], T]) -> T:
        """Do the same as `read`, on a thread other than the event loop's. This blocks."""
        return self._queue_read(work).result()

    @contextlib.asynccontextmanager
    async def sole(self, name: str) -> AsyncIterator[Sole | None]:
        """Hold the lock of this name within the block. None: another holder has it now.

        The lock ends with the process. A process that is stopped, and not ended, keeps it.
        """
        self._require_open()
        lock = self._engine.sole_lock(name)
        try:
            # To its end: a lock that is taken after its release would stay taken.
            taken = await to_its_end(asyncio.to_thread(lock.take))
            yield Sole(lock, self.location) if taken else None
        finally:
            await to_its_end(asyncio.to_thread(lock.release))

    def _queue_read(self, work: Callable[[Connection], T]) -> Future[T]:
        self._require_open()
        try:
            return self._engine.read(work)
        except RuntimeError as exc:  # another thread has closed it since the check
            raise DatabaseUnavailable(f"{self.location}: the database is closed") from exc

    def _require_open(self) -> None:
        if self._closed:
            raise DatabaseUnavailable(f"{self.location}: the database is closed")

    async def writes_noticed(self) -> int:
        """Return a number that grows with each notice of a write, by this process or another.

        Ask for it before a look at the database, and pass it to `wait_for_write`. So a write between the look
        and the wait is not missed.
        """
        return self._writes_noticed

    async def wait_for_write(self, seen: int, *, timeout_seconds: float) -> int:
        """Return `writes_noticed` as soon as it is not `seen`, or after the timeout.

        A write of this process ends the wait at once, a write of another process within about 50 ms. Any
        number of tasks may wait.
        """
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    while self._writes_noticed == seen:
                        await self._changed.wait()
        finally:
            self._waiting -= 1
        return self._writes_noticed

    async def until(self, look: Callable[[], Awaitable[T | None]], *, every_seconds: float = 1.0) -> T:
        """Call `look` until its result is not None, and return the result.

        It looks at once, after every write, and at least every `every_seconds`. A write during a look is not
        missed. An exception of `look` is raised here.
        """
        while True:
            seen = await self.writes_noticed()
            found = await look()
            if found is not None:
                return found
            await self.wait_for_write(seen, timeout_seconds=every_seconds)

    def _note_write(self) -> None:
        self._writes_noticed += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _watch_others(self) -> None:
        """Notice the writes of other processes.

        Neither database system reports them by itself. So this asks every `_POLL_SECONDS` while a task waits.
        """
        known: Hashable = None
        trouble = Trouble(over="writes of other processes are noticed again")
        # A database that is away is not asked twenty times a second: each look would open a connection.
        back_off = BackOff(_POLL_SECONDS, _LONGEST_POLL_SECONDS, random.Random())
        while True:
            await asyncio.sleep(max(_POLL_SECONDS, back_off.pause_seconds()))
            if self._waiting:
                try:
                    found = await asyncio.wrap_future(self._engine.change_mark())
                except EmbedfleetError as exc:
                    back_off.add_failure()
                    trouble.note(exc)
                    continue
                back_off.reset()
                trouble.clear()
                if found != known:
                    known = found
                    self._note_write()

    async def close(self) -> None:
        """Finish the queued writes and release every connection and thread. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            await cancel_and_wait(self._watch)
        await asyncio.to_thread(self._engine.close)


def _parse(url: str) -> URL:
    # SQLAlchemy does not accept the old name `postgres`, and its plain `postgresql` means another driver.
    name, separator, rest = url.partition("://")
    if name in ("postgres", "postgresql"):
        name = "postgresql+psycopg"
    if not name.startswith("sqlite") and not is_encoded(url):
        raise ConfigError(
            f"database.url: it has a special character in its user or password: {HOW_TO_ENCODE}"
        )
    try:
        parsed = make_url(f"{name}{separator}{rest}")
    except (ArgumentError, ValueError):  # not chained with `from`: its text may hold half of the password
        raise ConfigError(
            "database.url: not a URL; use postgresql://USER:PASSWORD@HOST/DATABASE (special characters of "
            "the password percent-encoded) or sqlite:///PATH"
        ) from None
    return parsed


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, so no task waits
        loop.call_soon_threadsafe(callback)
