"""The engine for SQLite: one writer thread with group commit, and reader threads beside it.

SQLite allows one writer at a time. All writes of a process go through one thread, which runs all waiting
units in one transaction. So with `synchronous=full`, these units share one flush to disk. If a unit fails,
the transaction is undone, and each of its units runs again alone. A transaction starts with BEGIN IMMEDIATE:
a deferred transaction that reads before it writes can fail with BUSY_SNAPSHOT, whatever the timeout.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from embedfleet.errors import ConfigError, DatabaseUnavailable, Remedy, StorageFull
from embedfleet.sql import migrations
from embedfleet.sql.sole import FileLock, SoleLock

T = TypeVar("T")

# The most units that share one commit. The limit bounds how long the first unit waits for the last.
_MAX_GROUP = 64
# The number of reader threads. In WAL mode, reads run side by side with each other and with the writer.
_READERS = 4
# The first release with RETURNING. It also has UPDATE ... FROM, which is older.
_OLDEST_SQLITE = (3, 35, 0)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit that waits for the writer thread, and the future of its result."""

    work: Callable[[Connection], Any]
    outcome: Future[Any]


class SqliteEngine:
    """A `SqlEngine` over one file in WAL mode."""

    def __init__(
        self, url: URL, *, synchronous: Literal["full", "normal"], busy_timeout_seconds: float
    ) -> None:
        self.location = url.database or ":memory:"
        pragmas = (f"synchronous={synchronous}", f"busy_timeout={int(busy_timeout_seconds * 1000)}")
        self._writer_engine = _engine(url, pragmas, begin="BEGIN IMMEDIATE", connections=1)
        self._reader_engine = _engine(url, (*pragmas, "query_only=1"), begin="BEGIN", connections=_READERS)
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="sql-writer", daemon=True)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sql-reader")
        self._reader = threading.local()
        self._reading: list[Connection] = []
        self._watcher: PoolProxiedConnection | None = None

    def open(self, committed: Callable[[], None]) -> None:
        """Connect, and create or upgrade the schema, so that an embedded system needs no set-up."""
        self._committed = committed
        self.upgrade()
        with _mapped(self.location):
            # A raw connection, because one in a SQLAlchemy transaction would always see the same snapshot.
            self._watcher = self._reader_engine.raw_connection()
        self._writer.start()

    def upgrade(self) -> tuple[str | None, str]:
        _require_version(self.location)
        with _mapped(self.location):
            return migrations.upgrade(self._writer_engine, self.location)

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        outcome: Future[T] = Future()
        self._units.put(_Unit(unit, outcome))
        return outcome

    def read(self, unit: Callable[[Connection], T]) -> Future[T]:
        return self._readers.submit(self._read, unit)

    def _read(self, unit: Callable[[Connection], T]) -> T:
        with _mapped(self.location):
            conn = self._connection_of_thread()
            with conn.begin():
                return unit(conn)

    def _connection_of_thread(self) -> Connection:
        """Return the connection that this reader thread keeps.

        A thread keeps its connection because taking one from the pool takes longer than most reads.
        """
        conn: Connection | None = getattr(self._reader, "connection", None)
        if conn is None:
            conn = self._reader.connection = self._reader_engine.connect()
            self._reading.append(conn)
        return conn

    def change_mark(self) -> Future[Hashable]:
        return self._readers.submit(self._data_version)

    def _data_version(self) -> int:
        """Return a number that changes with a commit of any connection except the one that asks."""
        assert self._watcher is not None
        with _mapped(self.location):
            cursor = self._watcher.cursor()
            try:
                cursor.execute("PRAGMA data_version")
                (version,) = cursor.fetchall()[0]
                return int(version)
            finally:
                cursor.close()

    def sole_lock(self, name: str) -> SoleLock:
        return FileLock(self.location, name)

    def close(self) -> None:
        self._units.put(None)
        if self._writer.is_alive():
            self._writer.join()
        self._readers.shutdown()
        for conn in self._reading:
            conn.close()
        if self._watcher is not None:
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
        """Run the group in one transaction. If that fails, run each unit in a transaction of its own.

        So a unit that fails does not undo the others.
        """
        try:
            with _mapped(self.location), self._writer_engine.begin() as conn:
                results = [unit.work(conn) for unit in group]
        except Exception as exc:  # noqa: BLE001 - the caller that waits for the unit raises it
            if len(group) == 1:
                group[0].outcome.set_exception(exc)
                return
            for unit in group:
                self._commit([unit])
            return
        for unit, result in zip(group, results, strict=True):
            unit.outcome.set_result(result)
        self._committed()


def _engine(url: URL, pragmas: tuple[str, ...], *, begin: str, connections: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=1,  # for the connection of `_data_version`
        hide_parameters=True,  # they hold document text, which must not reach a log
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    def prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        dbapi_connection.isolation_level = None  # pysqlite must not begin transactions of its own
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "temp_store=MEMORY", *pragmas):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", prepare)

    def begin_transaction(conn: Connection) -> None:
        # On the driver's connection: through SQLAlchemy it takes as long as a short query.
        driver = conn.connection.driver_connection
        assert driver is not None
        driver.execute(begin)

    event.listen(engine, "begin", begin_transaction)
    return engine


def _require_version(location: str) -> None:
    """Raise ConfigError if the SQLite library that Python loaded is too old for our statements."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(str(part) for part in _OLDEST_SQLITE[:2])
        raise ConfigError(
            f"{location}: this Python has SQLite {sqlite3.sqlite_version}, and {needed} or later is needed: "
            "use a newer Python or a newer SQLite library, or set database.url to a PostgreSQL database"
        )


class _mapped:
    """Raises embedfleet's errors in place of the driver's. No other code maps them."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _tb: object) -> None:
        orig = exc.orig if isinstance(exc, DBAPIError) else exc
        if exc is not None and isinstance(orig, sqlite3.Error):
            ours = _translate(orig, self._location)
            if ours is not orig:
                raise ours from exc


def _translate(exc: sqlite3.Error, location: str) -> Exception:
    reason = str(exc)
    if "disk is full" in reason or "disk I/O error" in reason:
        return StorageFull(f"{location}: {reason}; free some space and run again, nothing stored is lost")
    if "readonly" in reason or "unable to open" in reason:
        return ConfigError(
            f"{location}: {reason}; check that the data directory exists and can be written, "
            "or choose another one",
            remedy=Remedy.CHOOSE_DATA_DIRECTORY,
        )
    if isinstance(exc, sqlite3.OperationalError):
        return DatabaseUnavailable(f"{location}: {reason}")
    if isinstance(exc, sqlite3.DatabaseError) and "not a database" in reason:
        return ConfigError(
            f"{location}: {reason}; move the file away or choose another data directory",
            remedy=Remedy.CHOOSE_DATA_DIRECTORY,
        )
    return exc
