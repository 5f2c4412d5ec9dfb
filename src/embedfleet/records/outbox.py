"""The transactional outbox: what SQL holds for the leader to do, and which jobs the broker was told of.

A submitted or retried job has no `offered_at`; the leader offers it to the broker and then marks it offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, literal_column, select, tuple_, update

from embedfleet.records.jobs import UNFINISHED, Job, job_of
from embedfleet.sql.tables import documents, events, generations, jobs, searches

# At least one of these columns changes whenever one of a job's tasks moves on, or the job is offered.
_MOVES = ("job_id", "run", "offered_at", "batches_embedded", "batches_done", "chunks_total")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether anything of each kind waits for the leader."""

    jobs: bool
    cleanups: bool
    searches: bool
    events: bool


def waiting(conn: Connection) -> Waiting:
    """What waits now. One statement, answered from partial indexes that hold only rows that wait."""
    return Waiting(*map(bool, conn.execute(_WAITING).one()))


def unoffered(conn: Connection, limit: int) -> list[tuple[Job, int]]:
    """Up to `limit` unfinished jobs that the broker was not told of, oldest first, each with its document's
    length in characters."""
    query = (
        select(jobs, generations.c.chars)
        .join(generations, generations.c.generation_id == jobs.c.generation_id)
        .where(jobs.c.offered_at.is_(None), UNFINISHED)
        .order_by(jobs.c.created_at)
        .limit(limit)
    )
    return [(job_of(row), row.chars) for row in conn.execute(query)]


def mark_offered(conn: Connection, offered: Iterable[Job], now: float) -> None:
    """Record that the broker was told of these jobs.

    A job that has ended and been retried since it was read has another run, and stays in the outbox.
    """
    runs = sorted((job.job_id, job.run) for job in offered)
    _lock_rows(conn, jobs.c.job_id.in_([job_id for job_id, _ in runs]))
    conn.execute(update(jobs).where(tuple_(jobs.c.job_id, jobs.c.run).in_(runs)).values(offered_at=now))


def offer_all_again(conn: Connection) -> int:
    """Put every unfinished job back into the outbox, because the broker is new and knows none; returns how
    many."""
    _lock_rows(conn, UNFINISHED)
    return conn.execute(update(jobs).where(UNFINISHED).values(offered_at=None)).rowcount


def offered_page(conn: Connection, *, after: str, limit: int) -> list[Job]:
    """Up to `limit` unfinished jobs that were offered, by id, from beyond the id `after`."""
    query = (
        select(jobs)
        .where(UNFINISHED, jobs.c.offered_at.is_not(None), jobs.c.job_id > after)
        .order_by(jobs.c.job_id)
        .limit(limit)
    )
    return [job_of(row) for row in conn.execute(query)]


def offer_unmoved_again(conn: Connection, seen: Sequence[Job]) -> int:
    """Put those jobs back into the outbox that are exactly as they were seen; returns how many.

    A compare-and-set: a job that was moved since (by its workers, a cancel, a retry, another leader's offer)
    is in good hands and is left alone.
    """
    columns = tuple_(*(jobs.c[name] for name in _MOVES))
    states = [tuple(getattr(job, name) for name in _MOVES) for job in seen]
    _lock_rows(conn, jobs.c.job_id.in_([job.job_id for job in seen]))
    unmoved = update(jobs).where(UNFINISHED, columns.in_(states)).values(offered_at=None)
    return conn.execute(unmoved).rowcount


def _lock_rows(conn: Connection, which: ColumnElement[bool]) -> None:
    """Lock the jobs' rows in the order that all units use (`document_lock`): no two wait in a circle."""
    if conn.dialect.name != "sqlite":
        conn.execute(select(jobs.c.job_id).where(which).order_by(jobs.c.job_id).with_for_update()).all()


_WAITING = select(
    select(jobs.c.job_id).where(jobs.c.offered_at.is_(None), jobs.c.finished_at.is_(None)).exists(),
    # A literal, not a parameter: only then does SQLite see that the partial index applies.
    select(documents.c.document_id).where(documents.c.cleanup > literal_column("0")).exists(),
    select(searches.c.search_id).where(searches.c.response.is_(None)).exists(),
    select(events.c.event_id).where(events.c.position.is_(None)).exists(),
)
