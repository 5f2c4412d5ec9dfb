"""The SQL database as asyncio sees it: atomic units of work, and news of everybody's writes.

Repositories are plain functions over a SQLAlchemy `Connection`; a caller passes a closure of them to
`write` (one atomic unit) or `read`, so a transaction's borders are visible where the decision is made::

    job_id = await database.write(lambda conn: jobs.create(conn, ...))

Two engines do the work, chosen by the URL: `sqlite` (one writer, group commit) and `postgresql` (a pool of
connections). SQLite runs write units one after the other; PostgreSQL runs them side by side, READ COMMITTED.
What must not interleave is therefore said with a lock that both know: `document_lock`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from typing import Literal, Protocol, TypeVar

from loguru import logger
from prometheus_client import Histogram
from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from embedfleet.errors import ConfigError, DatabaseUnavailable, EmbedfleetError
from embedfleet.metrics import Metrics
from embedfleet.metrics.series import timed
from embedfleet.sql import document_lock

T = TypeVar("T")

_POLL_SECONDS = 0.05


class SqlEngine(Protocol):
    """What a database system does for `Database`. No method needs an event loop.

    Whatever fails raises (or sets on the future) an error of ours, or the unit's own.
    """

    location: str

    def open(self, committed: Callable[[], None]) -> None:
        """Connect and see to the schema; blocking. `committed` is called after commits, on any thread."""

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's, without `open`; blocking. (What it was, what it is.)"""

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Queue a unit to be run in a transaction of which all or nothing is kept. It may run again."""

    def read(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Queue a unit to be run on one snapshot, in which it cannot write."""

    def change_mark(self) -> Future[Hashable]:
        """Another value whenever anybody has committed since. Only for comparing."""

    def close(self) -> None:
        """Finish what is queued, release every connection and thread; blocking. Also if `open` failed."""


class Database:
    """Safe to use from any number of tasks of one event loop.

    Any method may raise DatabaseUnavailable or StorageFull: nothing of the unit was kept, or (only if the
    connection was lost in the very moment of the commit) nobody knows. So units are made to be repeated.
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
        """`synchronous` is for SQLite; `pool_size` and `connect_timeout_seconds` for PostgreSQL. `seconds`
        (by operation: read, write) is told how long units take, waiting for their turn included.

        Raises ConfigError for a URL of neither.
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
        self._version = 0
        self._changed = asyncio.Event()
        self._waiting = 0
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def location(self) -> str:
        """Where it is, for a person; without user and password."""
        return self._engine.location

    async def open(self) -> None:
        """Connect. SQLite's schema is created or upgraded; PostgreSQL's must be there (`upgrade_schema`).

        Raises ConfigError if the schema is missing, old or newer than this release.
        """
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._engine.open, lambda: _call_soon(loop, self._note_write))
        self._watch = asyncio.create_task(self._watch_others(), name="sql-watcher")

    async def upgrade_schema(self) -> tuple[str | None, str]:
        """Bring the schema of a database that is not open to this release's: (what it was, what it is).

        Concurrent callers, in this process or another, wait for one another.
        """
        return await asyncio.to_thread(self._engine.upgrade)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one atomic unit; durable on return.

        It runs on another thread, perhaps more than once (what it did before is undone then), so it must
        change nothing but the database. An exception it raises undoes the unit and comes back here.
        """
        self._require_open()

        def unit(conn: Connection) -> T:
            document_lock.begin(conn)
            return work(conn)

        # Shielded: a cancelled waiter must not leave the engine with a future it may no longer set.
        with timed(self._seconds, "write"):
            return await asyncio.shield(asyncio.wrap_future(self._engine.write(unit)))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot; it sees every write that returned before."""
        with timed(self._seconds, "read"):
            return await asyncio.wrap_future(self._queue_read(work))

    def read_blocking(self, work: Callable[[Connection], T]) -> T:
        """`read` for a thread that is not the event loop's."""
        return self._queue_read(work).result()

    def _queue_read(self, work: Callable[[Connection], T]) -> Future[T]:
        self._require_open()
        try:
            return self._engine.read(work)
        except RuntimeError as exc:  # closed meanwhile by another thread
            raise DatabaseUnavailable(f"{self.location}: the database is closed") from exc

    def _require_open(self) -> None:
        if self._closed:
            raise DatabaseUnavailable(f"{self.location}: the database is closed")

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

    async def until(self, look: Callable[[], Awaitable[T | None]], *, every_seconds: float = 1.0) -> T:
        """Return what `look` finds as soon as it is not None.

        It looks at once, after every write, and at least every `every_seconds`. A write that comes while it
        looks is not missed. Exceptions of `look` pass through.
        """
        while True:
            seen = await self.version()
            found = await look()
            if found is not None:
                return found
            await self.wait_for_write(seen, timeout_seconds=every_seconds)

    def _note_write(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _watch_others(self) -> None:
        """Neither system tells of other processes' commits unless asked; ask while somebody waits."""
        known: Hashable = None
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self._waiting:
                try:
                    found = await asyncio.wrap_future(self._engine.change_mark())
                except EmbedfleetError as exc:
                    logger.warning("cannot look for writes of other processes: {}", exc)
                    continue
                if found != known:
                    known = found
                    self._note_write()

    async def close(self) -> None:
        """Finish the waiting writes and release every connection and thread. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.to_thread(self._engine.close)


def _parse(url: str) -> URL:
    # SQLAlchemy knows the old name `postgres` no longer, and its plain `postgresql` means another driver.
    name, separator, rest = url.partition("://")
    if name in ("postgres", "postgresql"):
        name = "postgresql+psycopg"
    try:
        parsed = make_url(f"{name}{separator}{rest}")
    except (ArgumentError, ValueError):  # not chained: their words may hold half of the password
        raise ConfigError(
            "database.url: not a URL; use postgresql://USER:PASSWORD@HOST/DATABASE (special characters of "
            "the password percent-encoded) or sqlite:///PATH"
        ) from None
    return parsed


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(callback)
