"""INSERT ... ON CONFLICT, which SQLAlchemy has once for each dialect, with the same methods."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that takes `on_conflict_do_nothing` and `on_conflict_do_update`. `dialect`: its name, as in
    `conn.dialect.name`."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
