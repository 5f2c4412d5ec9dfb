"""Searches SQL for what is left of a deleted document, or of a deleted tenant.

Every table is either searched here, or named in `NOT_SEARCHED` with the reason. A test compares both with the
schema, so that a new table cannot be forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, or_, select

from embedfleet.sql.experiment_tables import (
    experiment_answers,
    experiment_hits,
    experiment_questions,
    experiments,
    impression_hits,
    impressions,
)
from embedfleet.sql.model_tables import model_switches, switch_questions
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import (
    api_keys,
    audit,
    batches,
    chunks,
    collections,
    dead_letters,
    deaths,
    documents,
    embeddings,
    events,
    generations,
    idempotency_keys,
    jobs,
    receipts,
    score_backgrounds,
    searches,
    segments,
    store_copies,
    tenants,
    usage,
    vectors,
    view_changes,
)
from embedfleet.sql.traffic_tables import shadow_differences, traffic_removals

OF_DOCUMENT = (
    documents,
    generations,
    vectors,
    embeddings,
    jobs,
    store_copies,
    switch_questions,
    experiment_questions,
    experiment_answers,
    experiment_hits,
    impression_hits,
)
"""The tables whose rows name their document."""
OF_GENERATION = (segments, chunks)
OF_JOB = (batches, dead_letters, deaths)
NAMING = (events, searches, idempotency_keys, traffic_removals, shadow_differences, view_changes)
"""The tables whose rows may name a document by its media id, or hold its text."""
OF_COLLECTION = (score_backgrounds,)
"""Tables whose rows are of a collection, and name no document."""
OF_TENANT = (
    experiment_hits,
    experiment_answers,
    experiment_questions,
    impression_hits,
    impressions,
    experiments,
    switch_questions,
    model_switches,
    collections,
    tenants,
)
"""Further tables with rows of a tenant. A row comes before the rows that it refers to."""

KEPT = (audit, receipts, usage, api_keys)
"""Tables whose rows stay, as they are evidence. A receipt counts those that name the document or tenant.

The keys of a deleted tenant are revoked. The audit log names them, and without any key the API would be open.
"""

_WITH_MEDIA_ID = (events, receipts, traffic_removals, shadow_differences, view_changes)
"""Tables whose rows have the media id of their document in a column."""

NOT_SEARCHED = {
    "facts": "facts of the whole system",
    "leadership": "which orchestrator leads",
    "orchestrators": "which orchestrators run",
    "store_moves": "which vector stores the vectors moved between",
    "shadows": "what shadow runs counted; their differences, which name documents, are searched",
    "traffic_changes": "which tenants an operator sent which way",
    "traffic_counts": "how many requests went which way",
    "views": "which collections other systems read",
}


@dataclass(frozen=True, slots=True)
class DocumentKeys:
    """What the rows of a document are found by, also after some of them are dropped."""

    media_id: str
    document_id: str
    generation_ids: Sequence[int]
    job_ids: Sequence[str]


Counts = Mapping[str, int]
"""Numbers of rows by the name of their table."""


def keys_of_documents(conn: Connection, media_ids: Mapping[str, str]) -> dict[str, DocumentKeys]:
    """Return the keys of documents that are still there, by document id. `media_ids` are by document id."""
    made = _grouped(conn, generations.c.document_id, generations.c.generation_id, list(media_ids))
    its_jobs = _grouped(conn, jobs.c.document_id, jobs.c.job_id, list(media_ids))
    return {
        document_id: DocumentKeys(
            media_id, document_id, made.get(document_id, ()), its_jobs.get(document_id, ())
        )
        for document_id, media_id in media_ids.items()
    }


def rows_of_documents(conn: Connection, wanted: Sequence[DocumentKeys]) -> dict[str, dict[str, int]]:
    """Count the rows that belong to each document, by document id and table."""
    found: dict[str, dict[str, int]] = {one.document_id: {} for one in wanted}
    own = {one.document_id: one.document_id for one in wanted}
    of_generation = {key: one.document_id for one in wanted for key in one.generation_ids}
    of_job = {key: one.document_id for one in wanted for key in one.job_ids}
    for tables, column, owners in (
        (OF_DOCUMENT, "document_id", own),
        (OF_GENERATION, "generation_id", of_generation),
        (OF_JOB, "job_id", of_job),
    ):
        for table in tables:
            for counts in found.values():
                counts[table.name] = 0
            for key, number in _counted(conn, table.c[column], list(owners)):
                found[owners[key]][table.name] += number
    return found


def rows_naming_documents(
    conn: Connection, tenant: str, media_ids: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count the tenant's rows that name each document, by media id and table. `KEPT` tables are included.

    It reads the events, the answers and the audit log of the tenant.
    """
    named = {media_id: _naming_in_texts(conn, tenant, media_id) for media_id in media_ids}
    for table in _WITH_MEDIA_ID:
        for media_id, number in _counted(conn, table.c.media_id, media_ids, table.c.tenant == tenant):
            named[media_id][table.name] = number
    return named


def forget_answers(conn: Connection, tenant: str, media_ids: Sequence[str]) -> None:
    """Drop the kept answers to requests of the tenant that name one of these documents."""
    for media_id in media_ids:
        conn.execute(
            delete(idempotency_keys).where(
                idempotency_keys.c.tenant == tenant, _names(idempotency_keys.c.response, media_id)
            )
        )


def rows_of_tenant(conn: Connection, tenant: str) -> dict[str, int]:
    """Count the rows of the tenant in every table, `KEPT` ones included."""
    counts = {table.name: _number(conn, query) for table, query in _of_tenant(tenant)}
    # Further rows of its collections, for which no document is left.
    for table in (vectors, embeddings, *OF_COLLECTION):
        mine = select(collections.c.collection_id).where(collections.c.tenant == tenant)
        counts[table.name] = _number(conn, _rows(table, table.c.collection_id.in_(mine)))
    return counts


def drop_of_tenant(conn: Connection, tenant: str) -> None:
    """Drop all rows of a tenant whose documents are gone, except those that are kept as evidence."""
    mine = select(collections.c.collection_id).where(collections.c.tenant == tenant)
    for table in (vectors, embeddings, *OF_COLLECTION):
        conn.execute(delete(table).where(table.c.collection_id.in_(mine)))
    for table in (*NAMING, *OF_TENANT):
        conn.execute(delete(table).where(table.c.tenant == tenant))


def _of_tenant(tenant: str) -> Iterable[tuple[Table, Select[Any]]]:
    for table in (documents, jobs, dead_letters, *NAMING, *OF_TENANT, *KEPT):
        yield table, _rows(table, table.c.tenant == tenant)
    its_documents = select(documents.c.document_id).where(documents.c.tenant == tenant)
    yield generations, _rows(generations, generations.c.document_id.in_(its_documents))
    its_generations = select(generations.c.generation_id).where(generations.c.document_id.in_(its_documents))
    for table in OF_GENERATION:
        yield table, _rows(table, table.c.generation_id.in_(its_generations))
    its_jobs = select(jobs.c.job_id).where(jobs.c.tenant == tenant)
    for table in (batches, deaths):
        yield table, _rows(table, table.c.job_id.in_(its_jobs))


def _naming_in_texts(conn: Connection, tenant: str, media_id: str) -> dict[str, int]:
    texts = {
        searches: or_(_names(searches.c.request, media_id), _names(searches.c.response, media_id)),
        idempotency_keys: _names(idempotency_keys.c.response, media_id),
        audit: _names(audit.c.details, media_id),
    }
    counts = {
        table.name: _number(conn, _rows(table, table.c.tenant == tenant, names))
        for table, names in texts.items()
    }
    return counts | {table.name: 0 for table in _WITH_MEDIA_ID}


def _names(column: ColumnElement[Any], media_id: str) -> ColumnElement[bool]:
    """Whether this JSON has the media id as a text. Writers of JSON escape in one of two ways."""
    written = {json.dumps(media_id), json.dumps(media_id, ensure_ascii=False)}
    return or_(*(column.contains(text, autoescape=True) for text in sorted(written)))


def _rows(table: Table, *where: ColumnElement[bool]) -> Select[Any]:
    return select(func.count()).select_from(table).where(*where)


def _number(conn: Connection, query: Select[Any]) -> int:
    return int(conn.execute(query).scalar_one())


def _grouped(
    conn: Connection, key: ColumnElement[Any], value: ColumnElement[Any], keys: Sequence[str]
) -> dict[str, list[Any]]:
    """Return the values of the rows of each key. A key without rows is left out."""
    found: dict[str, list[Any]] = {}
    for page in key_pages(keys):
        for owner, one in conn.execute(select(key, value).where(key.in_(page))).all():
            found.setdefault(owner, []).append(one)
    return found


def _counted(
    conn: Connection, column: ColumnElement[Any], keys: Sequence[Any], *where: ColumnElement[bool]
) -> Iterable[tuple[Any, int]]:
    """Yield (key, number of rows) for the keys that have rows."""
    for page in key_pages(keys):
        query = select(column, func.count()).where(column.in_(page), *where).group_by(column)
        for key, number in conn.execute(query).all():
            yield key, int(number)
