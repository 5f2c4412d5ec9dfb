"""Dead letters. Each says what was given up and why, and how an operator or a newer generation ended it.

A letter is open or ended (`DeadLetterEnd`). Its row is dropped only with its document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, or_, select, update

from embedfleet.clock import utc
from embedfleet.queue_schemas import DeadLetterInfo, Stage
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.sql_text import storable
from embedfleet.sql.states import DeadLetterEnd
from embedfleet.sql.tables import dead_letters, documents, jobs
from embedfleet.sql.upsert import upsert

_LARGEST_ID = 2**63 - 1
_LISTING = Listing("dead letters", (int,))
_OPEN = dead_letters.c.ended.is_(None)
_NOT_REQUEUED = func.coalesce(dead_letters.c.ended, "") != DeadLetterEnd.REQUEUED


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One chunk that was given up, or a whole task if `chunk_index` is None.

    `start` and `end` are character offsets in the document.
    """

    stage: Stage
    reason: str
    ordinal: int | None = None
    chunk_index: int | None = None
    start: int | None = None
    end: int | None = None


def add(conn: Connection, letters: Mapping[str, Sequence[DeadLetter]], now: float) -> None:
    """Write letters of the current runs of these jobs, by job id.

    A chunk has at most one letter in a run, and an existing letter stays unchanged. There is one exception.
    If the document was cut again within the run, its letters were marked as requeued. Such a letter becomes
    open again, with the values given here.
    """
    named = [job_id for job_id, some in letters.items() if some]
    rows = [
        {
            "tenant": job.tenant,
            "job_id": job.job_id,
            "run": job.run,
            "stage": letter.stage,
            "ordinal": letter.ordinal,
            "chunk_index": letter.chunk_index,
            "start": letter.start,
            "end": letter.end,
            "reason": storable(letter.reason),
            "created_at": now,
        }
        for ids in key_pages(named)
        for job in conn.execute(_RUNS, {"ids": ids}).all()
        for letter in letters[job.job_id]
    ]
    if not rows:
        return
    statement = upsert(conn.dialect.name, dead_letters)
    given = statement.excluded
    rewritten = {name: given[name] for name in ("stage", "ordinal", "start", "end", "reason", "created_at")}
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "run", "chunk_index"],
            set_={**rewritten, "ended": None, "ended_at": None},
            where=dead_letters.c.ended == DeadLetterEnd.REQUEUED,
        ),
        rows,
    )


def of_job(conn: Connection, job_id: str) -> list[DeadLetter]:
    """Return the letters of what the job still lacks, in the document's order. Requeued ones are left out."""
    return of_jobs(conn, [job_id]).get(job_id, [])


def of_jobs(conn: Connection, job_ids: Sequence[str]) -> dict[str, list[DeadLetter]]:
    """Return the letters of each job, as `of_job` does. A job without letters is left out."""
    found: dict[str, list[DeadLetter]] = {}
    for ids in key_pages(job_ids):
        for row in conn.execute(_OF_JOBS, {"ids": ids}):
            found.setdefault(row.job_id, []).append(_letter(row))
    return found


def of_batch(conn: Connection, job_id: str, ordinal: int) -> list[DeadLetter]:
    """Return the letters of the chunks that the batch still lacks. Requeued ones are left out."""
    query = select(dead_letters).where(
        dead_letters.c.job_id == job_id, dead_letters.c.ordinal == ordinal, _NOT_REQUEUED
    )
    return [_letter(row) for row in conn.execute(query)]


def reasons(conn: Connection, job_ids: Sequence[str]) -> dict[tuple[str, int], str]:
    """Return why chunks of these jobs were given up, by (job id, chunk index)."""
    given = [(job_id,) for job_id in sorted(set(job_ids))]
    found = _REASONS.run(conn, given, requeued=DeadLetterEnd.REQUEUED)
    return {(job_id, chunk_index): reason for job_id, chunk_index, reason in found}


def page(
    conn: Connection,
    scope: Scope,
    *,
    job_id: str | None,
    stage: Stage | None,
    ended: bool,
    limit: int,
    after: str | None,
) -> Page[DeadLetterInfo]:
    """Return up to `limit` open letters within the scope, newest first. With `ended`, add the ended ones."""
    query = _SELECT_INFO.where(scope.rows(dead_letters.c.tenant))
    query = query.order_by(dead_letters.c.dead_letter_id.desc()).limit(limit + 1)
    if job_id is not None:
        query = query.where(dead_letters.c.job_id == job_id)
    if stage is not None:
        query = query.where(dead_letters.c.stage == stage)
    if not ended:
        query = query.where(_OPEN)
    if after is not None:
        query = query.where(dead_letters.c.dead_letter_id < _LISTING.key_after(after)[0])
    found = [_info(row) for row in conn.execute(query)]
    return _LISTING.page(found, limit, lambda letter: (letter.dead_letter_id,))


def get_many(conn: Connection, scope: Scope, ids: Sequence[int]) -> dict[int, DeadLetterInfo]:
    """Return the letters with these ids, by id. Letters outside the scope are left out."""
    possible = [one for one in ids if 0 < one <= _LARGEST_ID]
    found: dict[int, DeadLetterInfo] = {}
    for some in key_pages(possible):
        query = _SELECT_INFO.where(dead_letters.c.dead_letter_id.in_(some), scope.rows(dead_letters.c.tenant))
        found |= {row.dead_letter_id: _info(row) for row in conn.execute(query)}
    return found


def any_to_requeue(conn: Connection, job_id: str, ids: Sequence[int]) -> bool:
    """Whether one of these letters of the job is not requeued. Without ids, whether any is open."""
    letters = select(dead_letters.c.dead_letter_id).where(dead_letters.c.job_id == job_id)
    if not ids:
        return conn.execute(letters.where(_OPEN).limit(1)).first() is not None
    letters = letters.where(_NOT_REQUEUED).limit(1)
    return any(
        conn.execute(letters.where(dead_letters.c.dead_letter_id.in_(some))).first() is not None
        for some in key_pages(ids)
    )


def mark_purged(conn: Connection, ids: Sequence[int], now: float) -> int:
    """Mark the open ones of these letters as purged: their loss is accepted. Return how many were open."""
    return sum(
        _mark_purged_where(conn, dead_letters.c.dead_letter_id.in_(some), now) for some in key_pages(ids)
    )


def mark_purged_of_job(conn: Connection, job_id: str, now: float) -> int:
    """Mark the open letters of the job as purged. Return how many were open."""
    return _mark_purged_where(conn, dead_letters.c.job_id == job_id, now)


def mark_purged_before(conn: Connection, scope: Scope, before: float, now: float) -> int:
    """Mark the open letters within the scope that were written before `before`. Return how many."""
    old = and_(dead_letters.c.created_at < before, scope.rows(dead_letters.c.tenant))
    return _mark_purged_where(conn, old, now)


def _mark_purged_where(conn: Connection, which: ColumnElement[bool], now: float) -> int:
    ended = update(dead_letters).where(which, _OPEN).values(ended=DeadLetterEnd.PURGED, ended_at=now)
    return conn.execute(ended).rowcount


def mark_replaced(conn: Connection, by_jobs: Mapping[str, str], now: float) -> None:
    """End the open letters of earlier jobs of these documents.

    `by_jobs` names, by document id, the job that made a newer generation of the document. Its own letters
    stay open. A job of a switch to another model makes a copy of a version, so it ends letters of such jobs
    only.
    """
    for ids in key_pages(list(by_jobs)):
        by = [by_jobs[document_id] for document_id in ids]
        conn.execute(_REPLACE, {"documents": ids, "by": by, "now": now})


def mark_requeued(conn: Connection, job_id: str, now: float) -> None:
    """Mark all letters of a job as requeued, because it runs again.

    Purged letters are included, as their batches are embedded again too.
    """
    conn.execute(
        update(dead_letters)
        .where(dead_letters.c.job_id == job_id, _NOT_REQUEUED)
        .values(ended=DeadLetterEnd.REQUEUED, ended_at=now)
    )


def drop_of_document(conn: Connection, document_id: str) -> None:
    """Drop the letters of a deleted document's jobs. Call this before the jobs' rows are dropped."""
    mine = select(jobs.c.job_id).where(jobs.c.document_id == document_id)
    conn.execute(delete(dead_letters).where(dead_letters.c.job_id.in_(mine)))


def _letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(Stage(row.stage), row.reason, row.ordinal, row.chunk_index, row.start, row.end)


_OF_JOBS = (
    select(dead_letters)
    .where(dead_letters.c.job_id.in_(bindparam("ids", expanding=True)), _NOT_REQUEUED)
    .order_by(dead_letters.c.start.nulls_first(), dead_letters.c.dead_letter_id)
)

_RUNS = select(jobs.c.job_id, jobs.c.tenant, jobs.c.run).where(
    jobs.c.job_id.in_(bindparam("ids", expanding=True))
)

_MAKER = jobs.alias("maker")

_REPLACE = (
    update(dead_letters)
    .where(
        dead_letters.c.job_id.in_(
            select(jobs.c.job_id)
            .join(_MAKER, _MAKER.c.document_id == jobs.c.document_id)
            .where(
                jobs.c.document_id.in_(bindparam("documents", expanding=True)),
                _MAKER.c.job_id.in_(bindparam("by", expanding=True)),
                # Ids grow. What the switch makes beside a version is younger than the version.
                _MAKER.c.generation_id > jobs.c.generation_id,
                or_(_MAKER.c.switch_id.is_(None), jobs.c.switch_id.is_not(None)),
            )
        ),
        _OPEN,
    )
    .values(ended=DeadLetterEnd.REPLACED, ended_at=bindparam("now"))
)

_REASONS = RowsStatement(
    "WITH given(job_id) AS (VALUES {rows}) "
    "SELECT letter.job_id, letter.chunk_index, letter.reason "
    "FROM given JOIN dead_letters AS letter ON letter.job_id = given.job_id "
    "WHERE letter.chunk_index IS NOT NULL AND COALESCE(letter.ended, '') <> {requeued}"
)

_SELECT_INFO = (
    select(dead_letters, func.coalesce(documents.c.media_id, "").label("media_id"), documents.c.source)
    .join(jobs, jobs.c.job_id == dead_letters.c.job_id)
    .outerjoin(documents, documents.c.document_id == jobs.c.document_id)
)


def _info(row: Row[Any]) -> DeadLetterInfo:
    return DeadLetterInfo(
        dead_letter_id=row.dead_letter_id,
        tenant=row.tenant,
        job_id=row.job_id,
        run=row.run,
        stage=Stage(row.stage),
        media_id=row.media_id,
        source=row.source,
        chunk_index=row.chunk_index,
        start=row.start,
        end=row.end,
        reason=row.reason,
        created_at=utc(row.created_at),
        ended=row.ended,
        ended_at=None if row.ended_at is None else utc(row.ended_at),
    )
