"""Alembic migrations of the SQL schema, run from the package (no ini file). One chain for both databases."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from embedfleet.errors import ConfigError

HEAD = "0004"

_VERSIONS = Path(__file__).parent / "versions"
# Any number, as long as nobody else locks the same in the same database.
_ADVISORY_LOCK = 0x656D626564


def upgrade(engine: Engine, location: str) -> tuple[str | None, str]:
    """Bring the schema to this release's: (what it was, what it is). Concurrent callers wait for one another.

    Raises ConfigError if the database was written by a newer release.
    """
    with engine.begin() as conn:  # SQLite: BEGIN IMMEDIATE, so one process migrates, the others find it done
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL lock_timeout = 0"))
            conn.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        current = _current(conn)
        if current == HEAD:
            return current, HEAD
        # Alembic is imported only when there is something to do: it costs start-up time.
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
        return current, HEAD


def require_head(engine: Engine, location: str) -> None:
    """Raises ConfigError, saying what to do, unless the schema is exactly this release's."""
    with engine.connect() as conn:
        current = _current(conn)
    if current == HEAD:
        return
    if current is not None and not any(_VERSIONS.glob(f"{current}_*.py")):
        raise _newer(current, location)
    state = "missing" if current is None else f"at {current}, this release needs {HEAD}"
    raise ConfigError(f"database.url: {location}: the schema is {state}: run `embedfleet db upgrade`")


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
