"""Dead letters: what was given up, why, and what an operator did about it.

Rows are dropped only with their document.

A letter is open, or ended (`DeadLetterEnd`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, select, update

from embedfleet.clock import utc
from embedfleet.queue_schemas import DeadLetterInfo, Stage
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.sql_text import storable
from embedfleet.sql.tables import DeadLetterEnd, dead_letters, documents, jobs
from embedfleet.sql.upsert import upsert

_LARGEST_ID = 2**63 - 1
_OPEN = dead_letters.c.ended.is_(None)
_NOT_REQUEUED = func.coalesce(dead_letters.c.ended, "") != DeadLetterEnd.REQUEUED


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What was given up: one chunk, or (`chunk_index` None) a whole task. `start`/`end` in characters."""

    stage: Stage
    reason: str
    ordinal: int | None = None
    chunk_index: int | None = None
    start: int | None = None
    end: int | None = None


def add(conn: Connection, job_id: str, letters: Sequence[DeadLetter], now: float) -> None:
    """Write letters of the job's current run.

    A chunk has one letter in a run: one that is there stays as it is, unless it was requeued within the run
    because the document was cut again; then it is open again, with what is given here.
    """
    if not letters:
        return
    job = conn.execute(select(jobs.c.tenant, jobs.c.run).where(jobs.c.job_id == job_id)).one()
    rows = [
        {
            "tenant": job.tenant,
            "job_id": job_id,
            "run": job.run,
            "stage": letter.stage,
            "ordinal": letter.ordinal,
            "chunk_index": letter.chunk_index,
            "start": letter.start,
            "end": letter.end,
            "reason": storable(letter.reason),
            "created_at": now,
        }
        for letter in letters
    ]
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
    """The letters of what the job still lacks (all but the requeued ones), in the document's order."""
    query = select(dead_letters).where(dead_letters.c.job_id == job_id, _NOT_REQUEUED)
    query = query.order_by(dead_letters.c.start.nulls_first(), dead_letters.c.dead_letter_id)
    return [_letter(row) for row in conn.execute(query)]


def of_batch(conn: Connection, job_id: str, ordinal: int) -> list[DeadLetter]:
    """The letters of what the batch still lacks."""
    query = select(dead_letters).where(
        dead_letters.c.job_id == job_id, dead_letters.c.ordinal == ordinal, _NOT_REQUEUED
    )
    return [_letter(row) for row in conn.execute(query)]


def reasons(conn: Connection, job_ids: Sequence[str]) -> dict[tuple[str, int], str]:
    """Why chunks of these jobs (at most a few hundred) were given up, by job and chunk index."""
    rows = conn.execute(_REASONS, {"ids": job_ids})
    return {(row.job_id, row.chunk_index): row.reason for row in rows}


def page(
    conn: Connection,
    scope: Scope,
    *,
    job_id: str | None,
    stage: Stage | None,
    ended: bool,
    limit: int,
) -> list[DeadLetterInfo]:
    """Letters within the scope, newest first: the open ones, or with `ended` also the others."""
    query = _SELECT_INFO.where(scope.rows(dead_letters.c.tenant))
    query = query.order_by(dead_letters.c.dead_letter_id.desc()).limit(limit)
    if job_id is not None:
        query = query.where(dead_letters.c.job_id == job_id)
    if stage is not None:
        query = query.where(dead_letters.c.stage == stage)
    if not ended:
        query = query.where(_OPEN)
    return [_info(row) for row in conn.execute(query)]


def get_many(conn: Connection, scope: Scope, ids: Sequence[int]) -> dict[int, DeadLetterInfo]:
    """Those of the letters that exist within the scope, by id."""
    possible = [one for one in ids if 0 < one <= _LARGEST_ID]
    found: dict[int, DeadLetterInfo] = {}
    for some in key_pages(possible):
        query = _SELECT_INFO.where(dead_letters.c.dead_letter_id.in_(some), scope.rows(dead_letters.c.tenant))
        found |= {row.dead_letter_id: _info(row) for row in conn.execute(query)}
    return found


def any_to_requeue(conn: Connection, job_id: str, ids: Sequence[int]) -> bool:
    """Whether the job has one of these letters and it was not requeued yet; without ids, an open letter."""
    letters = select(dead_letters.c.dead_letter_id).where(dead_letters.c.job_id == job_id)
    if not ids:
        return conn.execute(letters.where(_OPEN).limit(1)).first() is not None
    letters = letters.where(_NOT_REQUEUED).limit(1)
    return any(
        conn.execute(letters.where(dead_letters.c.dead_letter_id.in_(some))).first() is not None
        for some in key_pages(ids)
    )


def mark_purged(conn: Connection, ids: Sequence[int], now: float) -> int:
    """Accept the loss of those of these letters that are open; returns how many were."""
    return sum(
        _mark_purged_where(conn, dead_letters.c.dead_letter_id.in_(some), now) for some in key_pages(ids)
    )


def mark_purged_of_job(conn: Connection, job_id: str, now: float) -> int:
    """`mark_purged` of all letters of the job."""
    return _mark_purged_where(conn, dead_letters.c.job_id == job_id, now)


def mark_purged_before(conn: Connection, scope: Scope, before: float, now: float) -> int:
    """`mark_purged` of the letters within the scope that were written before that instant."""
    old = and_(dead_letters.c.created_at < before, scope.rows(dead_letters.c.tenant))
    return _mark_purged_where(conn, old, now)


def _mark_purged_where(conn: Connection, which: ColumnElement[bool], now: float) -> int:
    ended = update(dead_letters).where(which, _OPEN).values(ended=DeadLetterEnd.PURGED, ended_at=now)
    return conn.execute(ended).rowcount


def mark_replaced(conn: Connection, document_id: str, by_job_id: str, now: float) -> None:
    """End the open letters of the document's other jobs, because this job made a newer generation of it."""
    earlier = select(jobs.c.job_id).where(jobs.c.document_id == document_id, jobs.c.job_id != by_job_id)
    ended = {"ended": DeadLetterEnd.REPLACED, "ended_at": now}
    conn.execute(update(dead_letters).where(dead_letters.c.job_id.in_(earlier), _OPEN).values(ended))


def mark_requeued(conn: Connection, job_id: str, now: float) -> None:
    """End all letters of the job that is run again; purged ones too, as their batch is embedded again."""
    conn.execute(
        update(dead_letters)
        .where(dead_letters.c.job_id == job_id, _NOT_REQUEUED)
        .values(ended=DeadLetterEnd.REQUEUED, ended_at=now)
    )


def drop_of_document(conn: Connection, document_id: str) -> None:
    """Drop the letters of a deleted document's jobs; the jobs' rows must still be there."""
    mine = select(jobs.c.job_id).where(jobs.c.document_id == document_id)
    conn.execute(delete(dead_letters).where(dead_letters.c.job_id.in_(mine)))


def _letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(Stage(row.stage), row.reason, row.ordinal, row.chunk_index, row.start, row.end)


_REASONS = select(dead_letters.c.job_id, dead_letters.c.chunk_index, dead_letters.c.reason).where(
    dead_letters.c.job_id.in_(bindparam("ids", expanding=True)),
    dead_letters.c.chunk_index.is_not(None),
    _NOT_REQUEUED,
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
