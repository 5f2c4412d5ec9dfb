"""Documents: what they are called, and which there are. Their versions are in `records.generations`.

These are plain functions over a connection. The caller owns the transaction. It holds the document's lock
(`document_lock`) when it changes a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, literal_column, select

from embedfleet.sql import document_lock
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import collections, documents, generations


@dataclass(frozen=True, slots=True)
class DocumentName:
    """What a document is called. `source` says where it came from."""

    document_id: str
    tenant: str
    media_id: str
    source: str | None


def ensure_documents(conn: Connection, names: Sequence[DocumentName], now: float) -> None:
    """Create these documents, or restore deleted ones. An existing document gets the new `source`.

    A document that is named twice gets the last source.
    """
    last = {name.document_id: name for name in names}
    for document_id in last:
        document_lock.require(conn, document_id)
    rows = [(one.document_id, one.tenant, one.media_id, one.source, 0, 0, 0, 0, now) for one in last.values()]
    _ENSURE_DOCUMENTS.run(conn, rows)


def documents_by_tenant(conn: Connection, *, model: str) -> dict[str, int]:
    """Count the documents of each tenant that have a live or building generation of this model."""
    query = (
        select(documents.c.tenant, func.count(documents.c.document_id.distinct()).label("documents"))
        .join(generations, generations.c.document_id == documents.c.document_id)
        .join(collections, collections.c.collection_id == generations.c.collection_id)
        .where(
            collections.c.model == model,
            generations.c.state != GenerationState.RETIRED,
            documents.c.deleted_at.is_(None),
        )
        .group_by(documents.c.tenant)
    )
    return {row.tenant: row.documents for row in conn.execute(query)}


def any_live(conn: Connection, tenant: str) -> bool:
    """Whether readers see any document of the tenant."""
    query = select(documents.c.document_id).where(
        documents.c.tenant == tenant, documents.c.live_generation.is_not(None)
    )
    return conn.execute(query.limit(1)).first() is not None


def any_live_in(conn: Connection, collection_id: int) -> bool:
    """Whether readers see any document in the collection. An index of live generations tells."""
    # The state is a literal and not a parameter: only then does SQLite use the partial index.
    is_live = generations.c.state == literal_column(f"'{GenerationState.LIVE}'")
    query = select(generations.c.generation_id).where(generations.c.collection_id == collection_id, is_live)
    return conn.execute(query.limit(1)).first() is not None


def live_by_collection(conn: Connection, tenant: str) -> dict[int, int]:
    """Count the tenant's documents that readers see, by the collection of their vectors.

    While the tenant is switched to another model, a document may count in two. A collection without any is
    left out. The cost grows with the tenant's documents.
    """
    query = (
        select(generations.c.collection_id, func.count().label("documents"))
        .join(documents, documents.c.document_id == generations.c.document_id)
        .where(documents.c.tenant == tenant, generations.c.state == GenerationState.LIVE)
        .group_by(generations.c.collection_id)
    )
    return {row.collection_id: row.documents for row in conn.execute(query)}


@dataclass(frozen=True, slots=True)
class NamedDocument:
    """A document by its name. `created_at` is in Unix seconds."""

    tenant: str
    media_id: str
    created_at: float


def names_of(conn: Connection, document_ids: Sequence[str]) -> dict[str, NamedDocument]:
    """Return what documents are called, by id. Those that are deleted or have no generation are left out."""
    found: dict[str, NamedDocument] = {}
    made = select(generations.c.number).where(generations.c.document_id == documents.c.document_id).exists()
    for ids in key_pages(document_ids):
        there = documents.c.document_id.in_(ids) & documents.c.deleted_at.is_(None)
        for row in conn.execute(select(documents).where(there, made)):
            found[row.document_id] = NamedDocument(row.tenant, row.media_id, row.created_at)
    return found


def not_deleted_of_tenant(conn: Connection, tenant: str, limit: int, *, before: float) -> list[str]:
    """Return up to `limit` ids of the tenant's documents that were made before, and are not deleted."""
    query = select(documents.c.document_id).where(
        documents.c.tenant == tenant, documents.c.deleted_at.is_(None), documents.c.created_at <= before
    )
    return list(conn.execute(query.order_by(documents.c.document_id).limit(limit)).scalars())


def existing_among(conn: Connection, document_ids: Sequence[str]) -> set[str]:
    """Return which of these documents there are, without those that are deleted."""
    found: set[str] = set()
    for ids in key_pages(document_ids):
        there = documents.c.document_id.in_(ids) & documents.c.deleted_at.is_(None)
        found.update(conn.execute(select(documents.c.document_id).where(there)).scalars())
    return found


def ids_after(conn: Connection, tenant: str, after: str, limit: int) -> list[str]:
    """Return the next `limit` ids of the tenant's documents, in order, after the id `after`."""
    query = (
        select(documents.c.document_id)
        .where(documents.c.tenant == tenant, documents.c.document_id > after)
        .order_by(documents.c.document_id)
        .limit(limit)
    )
    return list(conn.execute(query).scalars())


def any_of_tenant(conn: Connection, tenant: str) -> bool:
    """Whether there is any document of the tenant, deleted or not."""
    query = select(documents.c.document_id).where(documents.c.tenant == tenant).limit(1)
    return conn.execute(query).first() is not None


def any_not_deleted_of_tenant(conn: Connection, tenant: str) -> bool:
    """Whether there is any document of the tenant that is not deleted."""
    query = select(documents.c.document_id).where(
        documents.c.tenant == tenant, documents.c.deleted_at.is_(None)
    )
    return conn.execute(query.limit(1)).first() is not None


def oldest_of_tenant(conn: Connection, tenant: str) -> float | None:
    """Return when the oldest of the tenant's documents was made, in Unix seconds; None if it has none."""
    query = select(func.min(documents.c.created_at)).where(documents.c.tenant == tenant)
    oldest: float | None = conn.execute(query).scalar()
    return oldest


def is_deleted(conn: Connection, document_id: str) -> bool:
    """Whether the document was deleted and not submitted again. False for an unknown document."""
    query = select(documents.c.deleted_at).where(documents.c.document_id == document_id)
    return conn.execute(query).scalar() is not None


def deleted_among(conn: Connection, document_ids: Sequence[str]) -> set[str]:
    """Return which of these documents were deleted and not submitted again."""
    found: set[str] = set()
    for ids in key_pages(document_ids):
        found.update(conn.execute(_DELETED_AMONG, {"ids": ids}).scalars())
    return found


# The same statement marks the change for views. While there are no views, it changes no index.
ONE_IF_THERE_ARE_VIEWS = "(CASE WHEN EXISTS (SELECT 1 FROM views) THEN 1 ELSE 0 END)"


_ENSURE_DOCUMENTS = RowsStatement(
    "INSERT INTO documents (document_id, tenant_id, media_id, source, cleanup, deletions, patches, "
    "view_marks, created_at) "
    "VALUES {rows} ON CONFLICT (document_id) DO UPDATE SET source = excluded.source, deleted_at = NULL, "
    "view_marks = documents.view_marks + CASE WHEN COALESCE(documents.source, '') "
    f"<> COALESCE(excluded.source, '') THEN {ONE_IF_THERE_ARE_VIEWS} ELSE 0 END"
)


_DELETED_AMONG = select(documents.c.document_id).where(
    documents.c.document_id.in_(bindparam("ids", expanding=True)), documents.c.deleted_at.is_not(None)
)
