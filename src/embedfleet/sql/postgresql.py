"""PostgreSQL through psycopg 3: each unit is a transaction, on a pool of threads and connections.

Write units run side by side under READ COMMITTED. Each statement sees the commits before it began, so a unit
that has waited for a lock sees the changes of the unit that held it. (REPEATABLE READ would keep the snapshot
from before the wait.) The server itself groups commits. A unit runs again after a conflict with another one
(deadlock, serialisation, a unique key that the other took first), or if its connection was lost before the
commit; one that only reads also if it was lost then. Read units run REPEATABLE READ, READ ONLY, so they see
one snapshot.

A process that is stopped or cut off during a unit must not keep its locks. So the server ends a transaction
that was idle for `_IDLE_IN_TRANSACTION_SECONDS`. A unit that lost its connection may be idle twice as long in
its next run: a process that works, but slowly, comes to an end. A stopped process may wait for a lock as
well, and would keep it in its turn. So the server ends each wait after `_ONE_WAIT_SECONDS`, and a unit whose
process works runs again, until it has waited as long as the settings allow.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from embedfleet.errors import ConfigError, DatabaseUnavailable, InvalidRequest, Remedy, StorageFull
from embedfleet.retry import BackOff
from embedfleet.sql import migrations
from embedfleet.sql.silence import KEEPALIVES, SILENCE_SECONDS
from embedfleet.sql.sole import AdvisoryLock, SoleLock

T = TypeVar("T")

# How often one unit runs before its error is raised. The pause between the runs grows to a tenth of a second.
_MAX_RUNS = 8
_FIRST_PAUSE_SECONDS = 0.004
_LONGEST_PAUSE_SECONDS = 0.1
# Longer than a unit is idle while its process works, and short enough for the others that wait for its locks.
_IDLE_IN_TRANSACTION_SECONDS = 3
# Shorter than that: processes that were stopped together have lost their places in the line for a lock before
# the one that holds it loses the lock. Otherwise each of them would hold it for three seconds more.
_ONE_WAIT_SECONDS = 2
# Until the end of the transaction: the next unit on this connection has the limit of before.
_MAY_BE_IDLE = text("SELECT set_config('idle_in_transaction_session_timeout', :ms, true)")

_SERIALIZATION_FAILURE = "40001"
_DEADLOCK = "40P01"
_UNIQUE_VIOLATION = "23505"
_LOCK_TIMEOUT = "55P03"
_RUN_AGAIN = {_SERIALIZATION_FAILURE, _DEADLOCK, _UNIQUE_VIOLATION}


class PostgresqlEngine:
    """A `SqlEngine` over a server.

    Half of the `pool_size` connections write and the other half read, so that write units that wait for a
    lock hold up no read. A connection is opened when it is first needed.
    """

    def __init__(
        self, url: URL, *, pool_size: int, connect_timeout_seconds: float, lock_timeout_seconds: float
    ) -> None:
        self.location = _location(url)
        self._url = url
        self._timeouts = (connect_timeout_seconds, lock_timeout_seconds)
        self._opened = False
        self._lock_timeout_seconds = lock_timeout_seconds
        self._rng = random.Random()  # its methods may be called on any thread
        writers = max(1, pool_size // 2)
        readers = max(1, pool_size - writers)
        self._engine = _engine(url, writers, connect_timeout_seconds, lock_timeout_seconds)
        # Connections of their own, which stay as they are. To set a connection for each unit, and back again,
        # takes the process as long as the statement of a small unit.
        self._snapshots = _engine(
            url, readers, connect_timeout_seconds, lock_timeout_seconds, isolation_level="REPEATABLE READ"
        )
        event.listen(self._snapshots, "connect", _make_read_only)
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="sql-writer")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sql-reader")

    def open(self, committed: Callable[[], None]) -> None:
        """Connect, and check that the schema exists and is up to date.

        An operator upgrades the schema of a fleet. The first process to start must not do it, because others
        of the earlier release may still run.
        """
        self._committed = committed
        try:
            with self._mapped():
                migrations.require_head(self._engine, self.location)
        except BaseException:
            self._dispose()  # a caller who forgets `close` after a failure leaves no connection open
            raise
        self._opened = True

    def upgrade(self) -> tuple[str | None, str]:
        with self._mapped():
            return migrations.upgrade(self._engine, self.location)

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        return self._writers.submit(self._write, unit)

    def _write(self, unit: Callable[[Connection], T]) -> T:
        result = self._run(self._engine, unit)
        self._committed()
        return result

    def read(self, unit: Callable[[Connection], T]) -> Future[T]:
        return self._readers.submit(self._run, self._snapshots, unit)

    def change_mark(self) -> Future[Hashable]:
        """Return the server's snapshot: the next transaction id and the running ones. A commit changes it."""
        return self._readers.submit(self._run, self._snapshots, _snapshot)

    def sole_lock(self, name: str) -> SoleLock:
        return _MappedLock(AdvisoryLock(_engine(self._url, 1, *self._timeouts), name), self.location)

    def close(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()
        self._dispose()

    def _dispose(self) -> None:
        self._engine.dispose()
        self._snapshots.dispose()

    def _run(self, engine: Engine, unit: Callable[[Connection], T]) -> T:
        """Run the unit in a transaction, up to `_MAX_RUNS` times after a conflict or a lost connection.

        After a wait for a lock that the server ended, the unit runs again without a pause and uncounted.
        """
        give_up_at = time.monotonic() + self._lock_timeout_seconds
        back_off = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, self._rng)
        lost = 0
        with self._mapped():
            while True:
                committing = False
                try:
                    with engine.begin() as conn:
                        if lost:
                            conn.execute(_MAY_BE_IDLE, {"ms": str(_idle_ms() << lost)})
                        result = unit(conn)
                        committing = True
                    return result
                except DBAPIError as exc:
                    if _sqlstate(exc) == _LOCK_TIMEOUT and time.monotonic() < give_up_at:
                        continue
                    # If the connection was lost during the commit, what was written may have been kept. To
                    # run the unit again is the caller's decision.
                    may_be_kept = committing and engine is not self._snapshots
                    dead = exc.connection_invalidated and not may_be_kept
                    lost += dead
                    back_off.add_failure()
                    if back_off.failures == _MAX_RUNS or not (dead or _sqlstate(exc) in _RUN_AGAIN):
                        raise
                time.sleep(back_off.pause_seconds())

    def _mapped(self) -> _mapped:
        return _mapped(self.location, opened=self._opened)


class _MappedLock:
    """An advisory lock that raises embedfleet's errors."""

    def __init__(self, lock: AdvisoryLock, location: str) -> None:
        self._lock = lock
        self._location = location

    def take(self) -> bool:
        with _mapped(self._location, opened=True):
            return self._lock.take()

    def held(self) -> bool:
        return self._lock.held()

    def release(self) -> None:
        self._lock.release()


def _idle_ms() -> int:
    return int(_IDLE_IN_TRANSACTION_SECONDS * 1000)


def _snapshot(conn: Connection) -> str:
    return str(conn.execute(text("SELECT pg_current_snapshot()::text")).scalar_one())


def _make_read_only(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.read_only = True


def _engine(
    url: URL,
    connections: int,
    connect_timeout: float,
    lock_timeout: float,
    *,
    isolation_level: Literal["READ COMMITTED", "REPEATABLE READ"] = "READ COMMITTED",
) -> Engine:
    try:
        engine = create_engine(
            url,
            isolation_level=isolation_level,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,  # parameters hold document text, which must not reach a log
            connect_args={
                "application_name": "embedfleet",
                "connect_timeout": max(2, round(connect_timeout)),  # libpq's minimum is 2
                # A server that vanished is noticed both while we wait for it and while we send to it.
                **KEEPALIVES,
                "tcp_user_timeout": SILENCE_SECONDS * 1000,
            },
        )
    except ImportError as exc:
        raise ConfigError(
            f"database.url: PostgreSQL needs psycopg ({exc}): install the extra `fleet` of embedfleet"
        ) from exc

    def prepare(dbapi_connection: Any, _record: object) -> None:
        # By statements, not by libpq's `options`, which poolers such as PgBouncer do not pass on.
        with dbapi_connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(min(lock_timeout, _ONE_WAIT_SECONDS) * 1000)}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {_idle_ms()}")
        dbapi_connection.commit()

    def end_pipeline(
        conn: Connection, _cursor: Any, _sql: str, _parameters: Any, _context: Any, executemany: bool
    ) -> None:
        """After rows that were sent together, begin again to count how long the transaction is idle.

        psycopg sends them in a pipeline, and its last message is a request to flush. The server stops to
        count when any message arrives, and begins again only when it has answered one that is a command. So a
        process that was stopped here would keep its locks for ever. An empty command is answered at once.
        """
        if executemany:
            driver = conn.connection.driver_connection
            assert driver is not None
            driver.pgconn.exec_(b"")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "after_cursor_execute", end_pipeline)
    return engine


def _location(url: URL) -> str:
    """Return the host and the database only, because other parts of a URL may hold a password."""
    named = url.host or url.query.get("host") or "localhost"
    host = named if isinstance(named, str) else ",".join(named)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{host}{port}/{url.database or ''}"


class _mapped:
    """Raises embedfleet's errors in place of the driver's. No other code maps them."""

    def __init__(self, location: str, *, opened: bool) -> None:
        self._location = location
        self._opened = opened

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _tb: object) -> None:
        if isinstance(exc, NoConnectionLeft):
            raise DatabaseUnavailable(
                f"{self._location}: all connections are taken for too long: raise database.pool_size"
            ) from exc
        if isinstance(exc, DBAPIError):
            ours = _translate(exc, self._location, opened=self._opened)
            if ours is not exc:
                raise ours from exc


# The server's messages when it refuses a connection, for which libpq gives no code.
_REFUSALS = re.compile(
    r"password authentication failed|no password supplied|authentication failed|no pg_hba.conf entry"
    r"|(database|role) \".*\" does not exist|permission denied for database"
)
_FULL = "53100"
_READ_ONLY = "25006"
_UNDEFINED_TABLE_OR_COLUMN = {"42P01", "42703"}
_NO_PRIVILEGE = "42501"
# By class: connection (08), insufficient resources (53), intervention (57), system error (58), rollback (40).
# By code: lock timeout (55P03), idle in transaction or transaction timeout (25P03, 25P04).
_UNAVAILABLE = re.compile(r"08|53|57|58|55P03|25P0[34]|40")


def _translate(exc: DBAPIError, location: str, *, opened: bool) -> Exception:
    code = _sqlstate(exc)
    reason = _first_line(exc.orig)
    if code == _FULL:
        return StorageFull(f"{location}: {reason}; free some space there, nothing stored is lost")
    if code == _READ_ONLY:
        return DatabaseUnavailable(
            f"{location}: {reason}; a standby takes no writes: database.url must name the primary"
        )
    if code in _UNDEFINED_TABLE_OR_COLUMN:
        return ConfigError(f"{location}: {reason}; upgrade the schema", remedy=Remedy.UPGRADE_SCHEMA)
    if code == _NO_PRIVILEGE:
        return ConfigError(f"{location}: {reason}; grant it to the user of database.url")
    if isinstance(exc, DataError) and code is None:
        return InvalidRequest(reason)  # the driver refuses a text with NUL in it
    if code is None and not opened and (isinstance(exc, ProgrammingError) or _REFUSALS.search(reason)):
        return ConfigError(f"database.url: {location}: {reason}")
    if code is None or exc.connection_invalidated or _UNAVAILABLE.match(code):
        return DatabaseUnavailable(f"{location}: {reason}")
    return exc


def _sqlstate(exc: DBAPIError) -> str | None:
    """Return PostgreSQL's error code; None if the server sent none."""
    code: str | None = getattr(exc.orig, "sqlstate", None)
    return code


def _first_line(exc: BaseException | None) -> str:
    return str(exc).strip().partition("\n")[0]
