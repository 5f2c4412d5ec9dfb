"""Alembic migrations of the SQL schema, run from the package (no ini file)."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from embedfleet.errors import ConfigError

HEAD = "0002"


def upgrade(engine: Engine) -> None:
    """Bring the schema to this release's. Concurrent callers wait for one another.

    Raises ConfigError if the database was written by a newer release.
    """
    with engine.begin() as conn:  # BEGIN IMMEDIATE: one process migrates, the others find it done
        current = None
        if inspect(conn).has_table("alembic_version"):
            current = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if current == HEAD:
            return
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
            raise ConfigError(
                f"{engine.url.database}: the database has schema {current}, which this release does not "
                "know: upgrade embedfleet, or choose another --data-dir"
            ) from exc
