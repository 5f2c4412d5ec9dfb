"""A lock of the whole database that one process holds, however long it takes, and that ends with it."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from embedfleet.os_lock import OsLock
from embedfleet.sql.silence import KEEPALIVES

# Advisory locks have two numbers. The first one says that it is a lock of this module.
_CLASS = 0x656D6265


class SoleLock(Protocol):
    """A lock with a name. A stopped process keeps it; one that has ended has lost it. Each call blocks."""

    def take(self) -> bool:
        """Take the lock if it is free. Return whether this object holds it."""
        ...

    def held(self) -> bool:
        """Whether this object still holds the lock: it may have lost it with its connection."""
        ...

    def release(self) -> None:
        """Release the lock, and what was opened for it. Has no effect the second time."""
        ...


class FileLock:
    """The lock beside a database that is a file."""

    def __init__(self, database: str, name: str) -> None:
        self._lock = OsLock(Path(f"{database}.{name}"))

    def take(self) -> bool:
        return self._lock.take()

    def held(self) -> bool:
        return self._lock.held

    def release(self) -> None:
        self._lock.release()


class AdvisoryLock:
    """A lock of PostgreSQL's that belongs to a connection, which is open for the lock alone.

    The connection runs each statement by itself: the server ends transactions that are idle.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        """`engine` is used for this lock alone, and disposed with it."""
        self._engine = engine
        self._key = {"class": _CLASS, "key": zlib.crc32(name.encode()) >> 1}
        self._conn: Connection | None = None

    def take(self) -> bool:
        conn = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._conn = conn
        # The server is to notice soon that the host of the holder has vanished. Its own default is two hours.
        for name, value in KEEPALIVES.items():
            conn.execute(text(f"SET tcp_{name} = {value}"))
        return bool(conn.execute(_TAKE, self._key).scalar_one())

    def held(self) -> bool:
        try:
            return self._conn is not None and bool(self._conn.execute(_HELD, self._key).scalar_one())
        except SQLAlchemyError:
            return False

    def release(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(SQLAlchemyError):
                conn.invalidate()  # the server drops the lock with the connection
                conn.close()
        self._engine.dispose()


_TAKE = text("SELECT pg_try_advisory_lock(:class, :key)")
_HELD = text(
    "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND classid::bigint = :class AND objid::bigint = :key AND objsubid = 2)"
)
