"""Which backups of the database were written, so that a receipt of a deletion can name those that hold it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from embedfleet.sql.tables import facts

_PREFIX = "backup:"

RECORD = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"
"""What a backup writes, in SQL for SQLite: its source is no `Database`, as its schema may be an older one."""


def recorded_as(made_at: datetime, file: str) -> tuple[str, str]:
    """Return the parameters of `RECORD` for a backup that begins at this instant (UTC)."""
    return f"{_PREFIX}{made_at.isoformat()}", file


def made(conn: Connection) -> dict[str, datetime]:
    """Return when the last backup was written into each file, by the file's path."""
    query = select(facts.c.name, facts.c.value).where(facts.c.name.startswith(_PREFIX)).order_by(facts.c.name)
    return {row.value: datetime.fromisoformat(row.name.removeprefix(_PREFIX)) for row in conn.execute(query)}
