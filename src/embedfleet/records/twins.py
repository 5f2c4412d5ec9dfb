"""Twins: generations that a switch to another model makes beside those that readers see.

A twin has the text, the title, the metadata and the recipe of its original, in the other space of the switch.
These are plain functions over a connection. The caller owns the transaction, and holds the documents' locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, or_, select, update

from embedfleet.records import segments, switch_gaps
from embedfleet.records.collections import Collection
from embedfleet.records.documents import ONE_IF_THERE_ARE_VIEWS
from embedfleet.records.generations import Generation, NewGeneration, add_generations
from embedfleet.sql import document_lock
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.states import GenerationState, VectorState
from embedfleet.sql.tables import chunks, documents, generations, jobs, vectors


@dataclass(frozen=True, slots=True)
class NewTwin:
    """A twin that was written, and is to be made."""

    document_id: str
    generation_id: int


def add(
    conn: Connection,
    document_ids: Sequence[str],
    *,
    source: Collection,
    target: Collection,
    chunker_version: int,
) -> list[NewTwin]:
    """Write a twin in `target` for each of the documents that is live in `source`. Return them.

    A document that is deleted, or not live there, is left out.
    """
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    found = _ADD_TWINS.run(
        conn,
        [(document_id,) for document_id in document_ids],
        building=GenerationState.BUILDING,
        target=target.collection_id,
        version=chunker_version,
        source=source.collection_id,
        live=GenerationState.LIVE,
    )
    made = [NewTwin(row.document_id, int(row.generation_id)) for row in found]
    _ADD_TEXTS.run(
        conn,
        [(one.document_id, one.generation_id) for one in made],
        source=source.collection_id,
        live=GenerationState.LIVE,
    )
    return made


def add_beside(conn: Connection, original: Generation, target: Collection, *, chunker_version: int) -> int:
    """Write a twin in `target` of a generation that is made again. Return its id.

    The original gets the highest number of its document, as when it was submitted.
    """
    document_id = original.document_id
    document_lock.require(conn, document_id)
    number = select(func.max(generations.c.number)).where(generations.c.document_id == document_id)
    highest = int(conn.execute(number).scalar_one())
    texts = segments.of_generation(conn, original.generation_id)
    new = NewGeneration(
        document_id,
        highest + 1,
        original.recipe,
        target,
        texts,
        chunker_version,
        original.account,
        original.strict,
        original.written_metadata,
    )
    [twin_id] = add_generations(conn, [new])
    conn.execute(
        update(generations)
        .where(generations.c.generation_id == original.generation_id)
        .values(number=highest + 2)
    )
    return twin_id


def to_settle(
    conn: Connection, tenant: str, *, kept: Collection, dropped: Collection, limit: int, after: str = ""
) -> list[str]:
    """Return up to `limit` documents of the tenant that need `dropped` no more and are still in use there.

    They are live in `kept`, and as new as in `dropped`. They are in the order of their ids, after `after`.
    Those with an unfinished job that was submitted, or that makes them in `kept`, are left out: they are
    settled when it has ended.
    """
    other, made = generations.alias("other"), generations.alias("made")
    query = (
        select(documents.c.document_id)
        .join(generations, generations.c.document_id == documents.c.document_id)
        .where(
            documents.c.tenant == tenant,
            documents.c.deleted_at.is_(None),
            documents.c.document_id > after,
            generations.c.collection_id == kept.collection_id,
            generations.c.state == GenerationState.LIVE,
            exists().where(
                other.c.document_id == documents.c.document_id,
                other.c.collection_id == dropped.collection_id,
                other.c.state != GenerationState.RETIRED,
            ),
            ~exists().where(
                other.c.document_id == documents.c.document_id,
                other.c.collection_id == dropped.collection_id,
                other.c.state == GenerationState.LIVE,
                switch_gaps.is_gap(other, kept),
            ),
            ~exists().where(
                jobs.c.document_id == documents.c.document_id,
                jobs.c.finished_at.is_(None),
                made.c.generation_id == jobs.c.generation_id,
                or_(jobs.c.switch_id.is_(None), made.c.collection_id == kept.collection_id),
            ),
        )
    )
    return list(conn.execute(query.order_by(documents.c.document_id).limit(limit)).scalars())


def settle(conn: Connection, document_ids: Sequence[str], *, kept: Collection, dropped: Collection) -> None:
    """Make the generation in `kept` the only one of each document, and retire those in `dropped`.

    It gets the highest number, so that a cleanup takes the others for replaced versions. The documents are
    marked for the views, which show another version of them from now on.
    """
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    rows = [(document_id,) for document_id in document_ids]
    _KEEP.run(conn, rows, kept=kept.collection_id, live=GenerationState.LIVE)
    _DESCRIBE_BY.run(conn, rows, kept=kept.collection_id, live=GenerationState.LIVE)
    _RETIRE.run(conn, rows, retired=GenerationState.RETIRED, dropped=dropped.collection_id)


def retired_in(conn: Connection, document_ids: Sequence[str], collection: Collection) -> list[int]:
    """Return the retired generations of these documents in the collection."""
    found: list[int] = []
    for ids in key_pages(document_ids):
        query = select(generations.c.generation_id).where(
            generations.c.document_id.in_(ids),
            generations.c.collection_id == collection.collection_id,
            generations.c.state == GenerationState.RETIRED,
        )
        found += conn.execute(query).scalars()
    return found


def live_in(conn: Connection, document_ids: Sequence[str], collection: Collection) -> list[str]:
    """Return those of these documents of which readers see a version in the collection."""
    found: list[str] = []
    for ids in key_pages(document_ids):
        query = select(generations.c.document_id).where(
            generations.c.document_id.in_(ids),
            generations.c.collection_id == collection.collection_id,
            generations.c.state == GenerationState.LIVE,
        )
        found += conn.execute(query).scalars()
    return found


def drop_vectors(conn: Connection, document_ids: Sequence[str], collection: Collection) -> int:
    """Forget the vectors of these documents in a collection that was dropped. Return how many there were."""
    gone = 0
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    for ids in key_pages(document_ids):
        mine = delete(vectors).where(
            vectors.c.document_id.in_(ids), vectors.c.collection_id == collection.collection_id
        )
        gone += conn.execute(mine).rowcount
    return gone


def unfinished_jobs_of(conn: Connection, document_ids: Sequence[str], switch_id: int) -> list[str]:
    """Return the unfinished jobs of the switch for these documents."""
    found: list[str] = []
    for ids in key_pages(document_ids):
        query = select(jobs.c.job_id).where(
            jobs.c.document_id.in_(ids), jobs.c.finished_at.is_(None), jobs.c.switch_id == switch_id
        )
        found += conn.execute(query).scalars()
    return found


def count_only_in(conn: Connection, collection: Collection, others: Sequence[Collection]) -> int:
    """Count the documents that readers see in the collection and in none of the others."""
    query = (
        select(func.count())
        .select_from(documents)
        .join(generations, generations.c.document_id == documents.c.document_id)
        .where(
            documents.c.tenant == collection.tenant,
            generations.c.collection_id == collection.collection_id,
            generations.c.state == GenerationState.LIVE,
            ~_live_in_any(others),
        )
    )
    return int(conn.execute(query).scalar_one())


def count_copies_in_use(conn: Connection, collection: Collection, others: Sequence[Collection]) -> int:
    """Count those of `count_in_use` whose documents readers see in one of the others, too."""
    query = (
        select(func.count())
        .select_from(generations)
        .join(documents, documents.c.document_id == generations.c.document_id)
        .where(
            generations.c.collection_id == collection.collection_id,
            generations.c.state != GenerationState.RETIRED,
            _live_in_any(others),
        )
    )
    return int(conn.execute(query).scalar_one())


def any_moving_into(conn: Connection, collection: Collection) -> bool:
    """Whether a submitted job makes a document in the collection that readers see in another one."""
    made = generations.alias("made")
    query = (
        select(jobs.c.job_id)
        .join(made, made.c.generation_id == jobs.c.generation_id)
        .where(
            jobs.c.tenant == collection.tenant,
            jobs.c.finished_at.is_(None),
            made.c.collection_id == collection.collection_id,
            exists().where(
                generations.c.document_id == made.c.document_id,
                generations.c.collection_id != collection.collection_id,
                generations.c.state == GenerationState.LIVE,
            ),
        )
    )
    return conn.execute(query.limit(1)).first() is not None


def _live_in_any(others: Sequence[Collection]) -> ColumnElement[bool]:
    """Return the condition on a document that readers see it in one of these collections."""
    there = generations.alias("there")
    return exists().where(
        there.c.document_id == documents.c.document_id,
        there.c.collection_id.in_([one.collection_id for one in others]),
        there.c.state == GenerationState.LIVE,
    )


def count_in_use(conn: Connection, collection: Collection) -> int:
    """Count the generations of the collection that readers see or that a job makes."""
    query = select(func.count()).where(
        generations.c.collection_id == collection.collection_id,
        generations.c.state != GenerationState.RETIRED,
    )
    return int(conn.execute(query).scalar_one())


def live_chunks(conn: Connection, collection: Collection) -> int:
    """Count the chunks of the generations of the collection that readers see."""
    return int(conn.execute(_LIVE_CHUNKS, {"collection": collection.collection_id}).scalar_one())


def recorded_chunks(conn: Connection, collection: Collection) -> int:
    """Count those of `live_chunks` of which SQL records a vector in the vector store."""
    stored = _LIVE_CHUNKS.join(vectors, vectors.c.chunk_id == chunks.c.chunk_id).where(
        vectors.c.state == VectorState.STORED
    )
    return int(conn.execute(stored, {"collection": collection.collection_id}).scalar_one())


_LIVE_CHUNKS = (
    select(func.count())
    .select_from(chunks)
    .join(generations, generations.c.generation_id == chunks.c.generation_id)
    .where(
        generations.c.collection_id == bindparam("collection"),
        generations.c.state == GenerationState.LIVE,
    )
)

_ADD_TWINS = RowsStatement(
    "WITH given(document_id) AS (VALUES {rows}) "
    "INSERT INTO generations (document_id, number, state, collection_id, content_hash, source_hash, "
    "content_type, chars, chunking, batch_chunks, chunker_version, title, account, strict, metadata) "
    "SELECT generations.document_id, (SELECT MAX(number) + 1 FROM generations AS made "
    "WHERE made.document_id = generations.document_id), {building}, {target}, content_hash, source_hash, "
    "content_type, chars, chunking, batch_chunks, {version}, title, account, strict, metadata "
    "FROM given JOIN generations ON generations.document_id = given.document_id "
    "AND generations.collection_id = {source} AND generations.state = {live} "
    "JOIN documents ON documents.document_id = given.document_id AND documents.deleted_at IS NULL "
    "RETURNING document_id, generation_id"
)

_ADD_TEXTS = RowsStatement(
    "WITH given(document_id, generation_id) AS (VALUES {rows}) "
    "INSERT INTO segments (generation_id, ordinal, start, chars, body, places) "
    "SELECT given.generation_id, segments.ordinal, segments.start, segments.chars, segments.body, "
    "segments.places FROM given JOIN generations ON generations.document_id = given.document_id "
    "AND generations.collection_id = {source} AND generations.state = {live} "
    "JOIN segments ON segments.generation_id = generations.generation_id"
)

_KEEP = RowsStatement(
    "WITH given(document_id) AS (VALUES {rows}) "
    "UPDATE generations SET number = (SELECT MAX(number) + 1 FROM generations AS made "
    "WHERE made.document_id = generations.document_id) FROM given "
    "WHERE generations.document_id = given.document_id AND generations.collection_id = {kept} "
    "AND generations.state = {live}"
)

_DESCRIBE_BY = RowsStatement(
    "WITH given(document_id) AS (VALUES {rows}) "
    "UPDATE documents SET live_generation = generations.number, "
    f"view_marks = documents.view_marks + {ONE_IF_THERE_ARE_VIEWS} "
    "FROM given JOIN generations ON generations.document_id = given.document_id "
    "AND generations.collection_id = {kept} AND generations.state = {live} "
    "WHERE documents.document_id = given.document_id"
)

_RETIRE = RowsStatement(
    "WITH given(document_id) AS (VALUES {rows}) "
    "UPDATE generations SET state = {retired} FROM given "
    "WHERE generations.document_id = given.document_id AND generations.collection_id = {dropped}"
)
