"""Which collection a tenant's vectors of one space are in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sqlalchemy import Connection, select

from embedfleet.sql.tables import collections
from embedfleet.sql.upsert import upsert

_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Collection:
    """One tenant's vectors of one space."""

    collection_id: int
    name: str
    tenant_id: str
    model: str
    space: str
    dim: int


def collection_name(tenant_id: str, space: str) -> str:
    """A valid Chroma name that no other pair of tenant and space has.

    The SHA-256 alone tells pairs apart, so nothing in a tenant's id can make it another's; the
    readable part in front is for people only and is `tenant` unless the id is plain ASCII.
    """
    tenant = tenant_id.encode("utf-8", "surrogatepass")
    # The length in front says where the tenant ends: ("ab", "c") and ("a", "bc") differ.
    identity = b"%d:%b%b" % (len(tenant), tenant, space.encode("utf-8", "surrogatepass"))
    readable = tenant_id if _PLAIN_TENANT.fullmatch(tenant_id) else "tenant"
    return f"{readable}-{hashlib.sha256(identity).hexdigest()}"


def ensure(conn: Connection, *, name: str, tenant_id: str, model: str, space: str, dim: int) -> Collection:
    """The collection of this name, created if missing."""
    by_name = select(collections).where(collections.c.name == name)
    found = conn.execute(by_name).one_or_none()
    if found is None:  # asked first: on PostgreSQL an insert that does nothing uses up a number all the same
        row = {"name": name, "tenant_id": tenant_id, "model": model, "space": space, "dim": dim}
        conn.execute(upsert(conn.dialect.name, collections).values(row).on_conflict_do_nothing())
        found = conn.execute(by_name).one()
    return Collection(**found._mapping)


def of_tenant(conn: Connection, tenant_id: str) -> list[Collection]:
    """A tenant's collections, oldest first."""
    query = select(collections).where(collections.c.tenant_id == tenant_id)
    return [Collection(**row._mapping) for row in conn.execute(query.order_by(collections.c.collection_id))]
