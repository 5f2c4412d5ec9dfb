"""Builds INSERT ... ON CONFLICT for both dialects. SQLAlchemy has two classes with the same methods."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that has `on_conflict_do_nothing` and `on_conflict_do_update`.

    `dialect` is `conn.dialect.name`.
    """
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
