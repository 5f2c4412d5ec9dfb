"""What was given up, why, and what an operator did about it. Rows go only with their document.

A letter is open, or ended: `requeued` when its job ran again, `purged` when the loss was accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from embedfleet.queue_schemas import Stage
from embedfleet.storage.sql_text import storable
from embedfleet.storage.tables import DeadLetterEnd, dead_letters, jobs
from embedfleet.storage.upsert import upsert

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
    """Write the letters of the job's current run. Nothing happens for a chunk whose letter is there; one that
    was requeued within the run (its document was cut anew) is open again."""
    if not letters:
        return
    job = conn.execute(select(jobs.c.tenant_id, jobs.c.run).where(jobs.c.job_id == job_id)).one()
    rows = [
        {
            "tenant_id": job.tenant_id,
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
    anew = {name: given[name] for name in ("stage", "ordinal", "start", "end", "reason", "created_at")}
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "run", "chunk_index"],
            set_={**anew, "ended": None, "ended_at": None},
            where=dead_letters.c.ended == DeadLetterEnd.REQUEUED,
        ),
        rows,
    )


def of_job(conn: Connection, job_id: str) -> list[DeadLetter]:
    """What the job still lacks (open or purged), in the document's order."""
    query = select(dead_letters).where(dead_letters.c.job_id == job_id, _NOT_REQUEUED)
    query = query.order_by(dead_letters.c.start.nulls_first(), dead_letters.c.dead_letter_id)
    return [_letter(row) for row in conn.execute(query)]


def of_batch(conn: Connection, job_id: str, ordinal: int) -> list[DeadLetter]:
    """What the batch lacks."""
    query = select(dead_letters).where(
        dead_letters.c.job_id == job_id, dead_letters.c.ordinal == ordinal, _NOT_REQUEUED
    )
    return [_letter(row) for row in conn.execute(query)]


def reasons(conn: Connection, job_ids: Sequence[str]) -> dict[tuple[str, int], str]:
    """Why chunks of these jobs (at most a few hundred) were given up, by job and chunk index."""
    query = select(dead_letters).where(
        dead_letters.c.job_id.in_(job_ids), dead_letters.c.chunk_index.is_not(None), _NOT_REQUEUED
    )
    return {(row.job_id, row.chunk_index): row.reason for row in conn.execute(query)}


def requeue(conn: Connection, job_id: str, now: float) -> None:
    """All that the job lacks is tried again; also what was purged, as its batch is embedded anew."""
    conn.execute(
        update(dead_letters)
        .where(dead_letters.c.job_id == job_id, _NOT_REQUEUED)
        .values(ended=DeadLetterEnd.REQUEUED, ended_at=now)
    )


def forget_document(conn: Connection, document_id: str) -> None:
    """Drop the letters of a deleted document's jobs; the jobs' rows must still be there."""
    mine = select(jobs.c.job_id).where(jobs.c.document_id == document_id)
    conn.execute(delete(dead_letters).where(dead_letters.c.job_id.in_(mine)))


def _letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(Stage(row.stage), row.reason, row.ordinal, row.chunk_index, row.start, row.end)
