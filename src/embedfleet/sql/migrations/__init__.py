"""Migrates the SQL schema with Alembic, without an ini file. One chain of migrations serves both databases.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from embedfleet.errors import ConfigError, Remedy

HEAD = "0010"

_VERSIONS = Path(__file__).parent / "versions"
# "embed" in ASCII. Any number works that no other application uses as an advisory lock in the same database.
_ADVISORY_LOCK = 0x656D626564


def upgrade(engine: Engine, location: str) -> tuple[str | None, str]:
    """Upgrade the schema to that of this release. Returns (the revision before, the revision now).

    Concurrent callers wait for one another. Raises ConfigError if a newer release has written the database.
    """
    with _schema_transaction(engine) as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL lock_timeout = 0"))
            # To import Alembic and to compute what a migration writes takes a slow machine many seconds.
            conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            conn.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        current = _current(conn)
        if current == HEAD:
            return current, HEAD
        # Alembic is imported only if there is something to do, as its import slows down the start.
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent))
        config.attributes["connection"] = conn
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise _newer(current, location) from exc
        _require_whole_references(conn)
        return current, HEAD


@contextmanager
def _schema_transaction(engine: Engine) -> Iterator[Connection]:
    """Open one transaction for all migrations. If one of them fails, nothing changes.

    SQLite: BEGIN IMMEDIATE, so one process migrates and the others find it done. Its foreign keys are off, as
    SQLite's own recipe for changing a table demands: a migration may copy a table that others refer to into
    a new one and drop the old one.
    """
    with engine.connect() as conn:
        if conn.dialect.name != "sqlite":
            with conn.begin():
                yield conn
            return
        driver = conn.connection.driver_connection
        assert driver is not None
        # Inside a transaction SQLite ignores this pragma. The driver is asked: SQLAlchemy would begin one.
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with conn.begin():
                yield conn
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


def _require_whole_references(conn: Connection) -> None:
    """Fail, and so undo the migrations, if a row now refers to one that is gone."""
    if conn.dialect.name == "sqlite":
        dangling = conn.execute(text("PRAGMA foreign_key_check")).first()
        assert dangling is None, f"the migration left a reference without its row: {dangling}"


def require_head(engine: Engine, location: str) -> None:
    """Raise ConfigError, with what to do, unless the schema is exactly that of this release."""
    with engine.connect() as conn:
        current = _current(conn)
    if current == HEAD:
        return
    if current is not None and not any(_VERSIONS.glob(f"{current}_*.py")):
        raise _newer(current, location)
    state = "missing" if current is None else f"at {current}, this release needs {HEAD}"
    raise ConfigError(
        f"database.url: {location}: the schema is {state}: upgrade it", remedy=Remedy.UPGRADE_SCHEMA
    )


def _current(conn: Connection) -> str | None:
    if not inspect(conn).has_table("alembic_version"):
        return None
    found: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _newer(current: str | None, location: str) -> ConfigError:
    return ConfigError(
        f"{location}: the database has schema {current}, which this release does not know: upgrade "
        "embedfleet, or choose another database"
    )
