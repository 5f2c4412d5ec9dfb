"""The collections of the vector store. Each tenant has one for each space of its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from embedfleet.records.scope import OneTenant, Scope
from embedfleet.sql.tables import collections
from embedfleet.sql.upsert import upsert


@dataclass(frozen=True, slots=True)
class Collection:
    """One tenant's vectors of one space. The vector store decides where and how it keeps them."""

    collection_id: int
    tenant: str
    model: str
    space: str
    dim: int

    @classmethod
    def of_row(cls, row: Row[Any]) -> Collection:
        """Build the collection from a row that has these columns, and maybe others."""
        return cls(row.collection_id, row.tenant, row.model, row.space, row.dim)


def ensure(conn: Connection, *, tenant: str, model: str, space: str, dim: int) -> Collection:
    """Return the tenant's collection of this space. Create it if it does not exist."""
    this_one = select(collections).where(collections.c.tenant == tenant, collections.c.space == space)
    found = conn.execute(this_one).one_or_none()
    # Read first: on PostgreSQL, an insert that does nothing still takes a number from the sequence.
    if found is None:
        row = {"tenant": tenant, "model": model, "space": space, "dim": dim}
        conn.execute(upsert(conn.dialect.name, collections).values(row).on_conflict_do_nothing())
        found = conn.execute(this_one).one()
    return Collection.of_row(found)


def of_tenant(conn: Connection, tenant: str) -> list[Collection]:
    """Return a tenant's collections, oldest first."""
    return within(conn, OneTenant(tenant))


def within(conn: Connection, scope: Scope) -> list[Collection]:
    """Return the collections within the scope, oldest first."""
    rows = conn.execute(_OLDEST_FIRST.where(scope.rows(collections.c.tenant)))
    return [Collection.of_row(row) for row in rows]


_OLDEST_FIRST = select(collections).order_by(collections.c.collection_id)
