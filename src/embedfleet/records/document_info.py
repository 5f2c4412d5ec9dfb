"""Builds `DocumentInfo`, the description of a document that callers get, from the rows of several tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, select

from embedfleet import document_metadata
from embedfleet.account import NOTHING_SAID, Account
from embedfleet.clock import utc
from embedfleet.document_filter import DocumentFilter
from embedfleet.queue_schemas import DocumentInfo, DocumentState
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.filters import begins_with, document_conditions
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import collections, documents, generations, jobs

_LISTING = Listing("documents", (str, str))
_OTHERS = generations.alias("others")


def page(
    conn: Connection,
    scope: Scope,
    *,
    source_prefix: str,
    matching: DocumentFilter,
    limit: int,
    after: str | None,
) -> Page[DocumentInfo]:
    """Return up to `limit` documents within the scope that are not deleted, by tenant and media id.

    With a prefix, return only those whose source starts with it. A document may have no source.
    """
    query = _matching(select(documents), scope, matching, conn.dialect.name)
    query = query.order_by(documents.c.tenant, documents.c.media_id).limit(limit + 1)
    if source_prefix:
        query = query.where(begins_with(documents.c.source, source_prefix))
    if after is not None:
        tenant, media_id = _LISTING.key_after(after)
        # The first condition alone bounds the range of the index that is read.
        query = query.where(
            documents.c.tenant >= tenant, (documents.c.tenant > tenant) | (documents.c.media_id > media_id)
        )
    found = _LISTING.page(conn.execute(query).all(), limit, lambda row: (row.tenant, row.media_id))
    return Page(_describe_all(conn, found), next_cursor=found.next_cursor)


def ids_matching(conn: Connection, scope: Scope, matching: DocumentFilter) -> list[str]:
    """Return the ids of all documents within the scope that are not deleted and match."""
    query = _matching(select(documents.c.document_id), scope, matching, conn.dialect.name)
    return list(conn.execute(query).scalars())


def matching_among(
    conn: Connection, scope: Scope, matching: DocumentFilter, document_ids: Sequence[str]
) -> dict[str, str]:
    """Return which of these documents still match: their media ids, by document id."""
    query = _matching(
        select(documents.c.document_id, documents.c.media_id), scope, matching, conn.dialect.name
    )
    found: dict[str, str] = {}
    for ids in key_pages(document_ids):
        for row in conn.execute(query.where(documents.c.document_id.in_(ids))):
            found[row.document_id] = row.media_id
    return found


def _matching(query: Select[Any], scope: Scope, matching: DocumentFilter, dialect: str) -> Select[Any]:
    """Restrict a query over `documents` to those within the scope that are not deleted and match."""
    query = query.where(scope.rows(documents.c.tenant), documents.c.deleted_at.is_(None))
    if matching.condition is not None:
        newest = select(func.max(_OTHERS.c.number)).where(_OTHERS.c.document_id == documents.c.document_id)
        shown = func.coalesce(documents.c.live_generation, newest.correlate(documents).scalar_subquery())
        query = query.join_from(
            documents,
            generations,
            and_(generations.c.document_id == documents.c.document_id, generations.c.number == shown),
        )
    return query.where(*document_conditions(matching, dialect))


def get(conn: Connection, document_id: str) -> DocumentInfo | None:
    """Return one document; None if it does not exist, or is deleted."""
    query = select(documents).where(documents.c.document_id == document_id, documents.c.deleted_at.is_(None))
    return next(iter(_describe_all(conn, conn.execute(query).all())), None)


@dataclass(frozen=True, slots=True)
class VersionState:
    """What became of a version. `is_live`: readers see it; `other_is_live`: they see another one. `replaced`:
    a later version was submitted. `deleted`: the document was deleted."""

    is_live: bool
    other_is_live: bool
    replaced: bool
    deleted: bool


def version_state(conn: Connection, document_id: str, generation_id: int) -> VersionState:
    """Return what became of this version of the document."""
    query = select(documents.c.live_generation, documents.c.deleted_at).where(
        documents.c.document_id == document_id
    )
    document = conn.execute(query).one_or_none()
    if document is None or document.deleted_at is not None:
        return VersionState(is_live=False, other_is_live=False, replaced=False, deleted=True)
    # What a switch to another model makes stands beside the version that was submitted.
    twins = select(jobs.c.generation_id).where(
        jobs.c.document_id == document_id, jobs.c.switch_id.is_not(None)
    )
    made = select(generations.c.generation_id, generations.c.number).where(
        generations.c.document_id == document_id, generations.c.generation_id.not_in(twins)
    )
    numbers = {row.generation_id: row.number for row in conn.execute(made)}
    mine = numbers.get(generation_id, 0)
    live = document.live_generation
    return VersionState(
        is_live=live is not None and live == mine,
        other_is_live=live is not None and live != mine,
        replaced=any(number > mine for number in numbers.values()),
        deleted=False,
    )


def _describe_all(conn: Connection, found: Sequence[Row[Any]]) -> list[DocumentInfo]:
    made: dict[str, list[Any]] = {}
    for ids in key_pages([row.document_id for row in found]):
        for row in conn.execute(_MADE_OF, {"ids": ids}):
            made.setdefault(row.document_id, []).append(row)
    shown = {row.document_id: _shown(row, made.get(row.document_id, [])) for row in found}
    cuts: dict[int, Row[Any]] = {}
    for ids in key_pages([one.generation_id for one in shown.values() if one is not None]):
        cuts |= {row.generation_id: row for row in conn.execute(_CUTS_OF, {"ids": ids})}
    return [_describe(row, made.get(row.document_id, []), shown[row.document_id], cuts) for row in found]


def _shown(document: Row[Any], made: Sequence[Row[Any]]) -> Row[Any] | None:
    """The generation that readers see, otherwise the newest. `made` are all of them, newest first."""
    live = next((one for one in made if one.number == document.live_generation), None)
    return live or next(iter(made), None)


def _describe(
    document: Row[Any], made: Sequence[Row[Any]], shown: Row[Any] | None, cuts: Mapping[int, Row[Any]]
) -> DocumentInfo:
    live = shown if shown is not None and shown.number == document.live_generation else None
    cut = None if shown is None else cuts.get(shown.generation_id)
    if live is not None:
        state = DocumentState.LIVE
    elif any(one.state == GenerationState.BUILDING for one in made):
        state = DocumentState.BUILDING
    else:
        state = DocumentState.FAILED
    return DocumentInfo(
        tenant=document.tenant,
        media_id=document.media_id,
        source=document.source,
        state=state,
        model=shown.model if shown else "",
        generation=shown.number if shown else 0,
        chars=shown.chars if shown else 0,
        title=shown.title if shown else None,
        chunks=None if cut is None else cut.chunks_total,
        coverage=None if cut is None or live is None else cut.coverage,
        account=Account.of_json(shown.account) if shown and shown.account else NOTHING_SAID,
        metadata=dict(document_metadata.read(shown.metadata)) if shown else {},
        created_at=utc(document.created_at),
    )


# A generation may have several jobs. They tell of the same cut.
_CUTS_OF = select(jobs.c.generation_id, jobs.c.chunks_total, jobs.c.coverage).where(
    jobs.c.generation_id.in_(bindparam("ids", expanding=True)), jobs.c.sealed
)

_MADE_OF = (
    select(
        generations.c.document_id,
        generations.c.generation_id,
        generations.c.number,
        generations.c.state,
        generations.c.chars,
        generations.c.title,
        generations.c.account,
        generations.c.metadata,
        collections.c.model,
    )
    .join(collections, collections.c.collection_id == generations.c.collection_id)
    .where(generations.c.document_id.in_(bindparam("ids", expanding=True)))
    .order_by(generations.c.number.desc())
)
