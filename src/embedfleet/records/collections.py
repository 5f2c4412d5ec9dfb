"""The collections of the vector store. Each tenant has one for each space of its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, exists, func, not_, select

from embedfleet.queue_schemas import CollectionInfo
from embedfleet.records.scope import OneTenant, Scope
from embedfleet.sql.model_tables import model_switches
from embedfleet.sql.paging import key_pages
from embedfleet.sql.states import GenerationState, VectorState
from embedfleet.sql.tables import collections, documents, generations, vectors
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A collection that must exist: the key is the tenant and the space."""

    tenant: str
    model: str
    space: str
    dim: int

    @property
    def key(self) -> tuple[str, str]:
        return self.tenant, self.space


def ensure(conn: Connection, wanted: Sequence[Wanted]) -> dict[tuple[str, str], Collection]:
    """Return these collections by tenant and space. Create those that do not exist."""
    found = _of_tenants(conn, wanted)
    # Read first: on PostgreSQL, an insert that does nothing still takes a number from the sequence.
    missing = {one.key: asdict(one) for one in wanted if one.key not in found}
    if missing:
        rows = [missing[key] for key in sorted(missing)]
        conn.execute(upsert(conn.dialect.name, collections).on_conflict_do_nothing(), rows)
        found = _of_tenants(conn, wanted)
    return found


def _of_tenants(conn: Connection, wanted: Sequence[Wanted]) -> dict[tuple[str, str], Collection]:
    """Return all collections of the tenants of `wanted`. A tenant has a few: one for each model it uses."""
    found: dict[tuple[str, str], Collection] = {}
    for tenants in key_pages(sorted({one.tenant for one in wanted})):
        for row in conn.execute(_OF_TENANTS, {"tenants": tenants}):
            found[row.tenant, row.space] = Collection.of_row(row)
    return found


def find(conn: Connection, tenant: str, space: str) -> Collection | None:
    """Return the collection of the tenant in this space; None if there is none."""
    mine = (collections.c.tenant == tenant) & (collections.c.space == space)
    row = conn.execute(select(collections).where(mine)).one_or_none()
    return None if row is None else Collection.of_row(row)


def of_tenant(conn: Connection, tenant: str) -> list[Collection]:
    """Return a tenant's collections, oldest first."""
    return within(conn, OneTenant(tenant))


def within(conn: Connection, scope: Scope) -> list[Collection]:
    """Return the collections within the scope, oldest first."""
    rows = conn.execute(_OLDEST_FIRST.where(scope.rows(collections.c.tenant)))
    return [Collection.of_row(row) for row in rows]


def described(conn: Connection, scope: Scope) -> list[CollectionInfo]:
    """Describe the collections within the scope, oldest first. The cost grows with their documents.

    Of a space that is filled for an experiment, only documents that no other space has are counted: no search
    sees its copies. While a tenant is switched to another model, a document counts in both of its spaces.
    """
    seen = (
        select(generations.c.collection_id, func.count().label("documents"))
        .join(
            documents,
            and_(
                documents.c.document_id == generations.c.document_id,
                generations.c.state == GenerationState.LIVE,
            ),
        )
        .where(scope.rows(documents.c.tenant), *_no_copies(conn))
        .group_by(generations.c.collection_id)
        .subquery()
    )
    query = _OLDEST_FIRST.add_columns(func.coalesce(seen.c.documents, 0).label("documents"))
    query = query.outerjoin(seen, seen.c.collection_id == collections.c.collection_id)
    return [
        CollectionInfo(
            tenant=row.tenant, model=row.model, space=row.space, dim=row.dim, documents=row.documents
        )
        for row in conn.execute(query.where(scope.rows(collections.c.tenant)))
    ]


def _no_copies(conn: Connection) -> list[ColumnElement[bool]]:
    """Restrict a query over generations to those that are no copies on trial. It is empty without a trial."""
    trials = select(model_switches.c.to_collection).where(
        model_switches.c.running == 1, model_switches.c.trial_of.is_not(None)
    )
    ids = list(conn.execute(trials).scalars())
    if not ids:
        return []
    there = generations.alias("there")
    elsewhere = exists().where(
        there.c.document_id == generations.c.document_id,
        there.c.collection_id != generations.c.collection_id,
        there.c.state == GenerationState.LIVE,
    )
    return [not_(and_(generations.c.collection_id.in_(ids), elsewhere))]


def stored_rows(conn: Connection) -> dict[Collection, int]:
    """Return how many vectors of each collection are recorded as stored. This reads all rows of `vectors`."""
    stored = (
        select(vectors.c.collection_id, func.count().label("rows"))
        .where(vectors.c.state == VectorState.STORED)
        .group_by(vectors.c.collection_id)
        .subquery()
    )
    query = _OLDEST_FIRST.add_columns(func.coalesce(stored.c.rows, 0).label("rows")).outerjoin(
        stored, stored.c.collection_id == collections.c.collection_id
    )
    return {Collection.of_row(row): row.rows for row in conn.execute(query)}


_OF_TENANTS = select(collections).where(collections.c.tenant.in_(bindparam("tenants", expanding=True)))

_OLDEST_FIRST = select(collections).order_by(collections.c.collection_id)
