"""Which collection a tenant's vectors of one space are in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from embedfleet.records.scope import OneTenant, Scope
from embedfleet.sql.tables import collections
from embedfleet.sql.upsert import upsert

_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Collection:
    """One tenant's vectors of one space."""

    collection_id: int
    name: str
    tenant: str
    model: str
    space: str
    dim: int


def collection_name(tenant: str, space: str) -> str:
    """A valid Chroma name that no other pair of tenant and space has.

    The SHA-256 alone tells pairs apart, so nothing in a tenant's id can make it another's; the
    readable part in front is for people only and is `tenant` unless the id is plain ASCII.
    """
    raw = tenant.encode("utf-8", "surrogatepass")
    # The length in front says where the tenant ends: ("ab", "c") and ("a", "bc") differ.
    identity = b"%d:%b%b" % (len(raw), raw, space.encode("utf-8", "surrogatepass"))
    readable = tenant if _PLAIN_TENANT.fullmatch(tenant) else "tenant"
    return f"{readable}-{hashlib.sha256(identity).hexdigest()}"


def ensure(conn: Connection, *, name: str, tenant: str, model: str, space: str, dim: int) -> Collection:
    """The collection of this name, created if missing."""
    by_name = select(collections).where(collections.c.name == name)
    found = conn.execute(by_name).one_or_none()
    if found is None:  # asked first: on PostgreSQL an insert that does nothing uses up a number all the same
        row = {"name": name, "tenant": tenant, "model": model, "space": space, "dim": dim}
        conn.execute(upsert(conn.dialect.name, collections).values(row).on_conflict_do_nothing())
        found = conn.execute(by_name).one()
    return _collection(found)


def of_tenant(conn: Connection, tenant: str) -> list[Collection]:
    """A tenant's collections, oldest first."""
    return within(conn, OneTenant(tenant))


def within(conn: Connection, scope: Scope) -> list[Collection]:
    """The collections within the scope, oldest first."""
    return [_collection(row) for row in conn.execute(_OLDEST_FIRST.where(scope.rows(collections.c.tenant)))]


_OLDEST_FIRST = select(collections).order_by(collections.c.collection_id)


def _collection(row: Row[Any]) -> Collection:
    return Collection(row.collection_id, row.name, row.tenant, row.model, row.space, row.dim)
