"""The transactional outbox: the work in SQL that waits for the leader, above all jobs to offer to the broker.

A submitted or retried job has no `offered_at`. The leader offers it to the broker, then sets `offered_at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    bindparam,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from embedfleet.records.jobs import UNFINISHED, lock_rows
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.tables import documents, events, generations, jobs, receipts, searches

# Newcomers are looked for among this many of the newest jobs. It bounds the time of a look, and fewer are
# submitted between two passes.
_NEWEST_LOOKED_AT = 2_000
# The part of a pass that is kept for newcomers, while there are any: one in four.
_SHARE_OF_NEWCOMERS = 4


@dataclass(frozen=True, slots=True)
class Waiting:
    """The kinds of work that wait for the leader. A field is true if there is work of its kind."""

    jobs: bool
    cleanups: bool
    searches: bool
    events: bool
    receipts: bool


class OfferedJob(NamedTuple):
    """An offered job as it was seen.

    Whenever a task of a job moves on, or the job is offered, at least one of these columns changes.
    """

    job_id: str
    run: int
    offered_at: float
    batches_embedded: int
    batches_done: int
    chunks_total: int


def waiting(conn: Connection) -> Waiting:
    """Return which kinds of work wait now.

    It is one statement, and partial indexes that hold only waiting rows answer it.
    """
    return Waiting(*map(bool, conn.execute(_WAITING).one()))


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that was not offered yet. `chars` is the length of its document in characters.

    `flow` is the line in which its tasks queue; None: that of its tenant.
    """

    job_id: str
    run: int
    tenant: str
    priority: int
    flow: str | None
    chars: int

    @property
    def line(self) -> str:
        """The line in which its tasks queue, among those that the broker serves fairly."""
        return self.flow or self.tenant


def unoffered(
    conn: Connection, limit: int, *, twins_until: Mapping[int, float] | None = None
) -> list[WaitingJob]:
    """Return up to `limit` unfinished jobs that were not offered, oldest first.

    `twins_until`: by the switch to another model, the instant after which its jobs are left out.

    If more wait, a quarter of the places goes to newcomers: tenants with none of the oldest jobs but with
    some of the newest. So a tenant that submits a job does not wait until 100,000 jobs of another tenant are
    offered.
    """
    until = twins_until or {}
    oldest = _waiting_jobs(conn, _OLDEST.where(*_not_held(jobs, until)), {"places": limit})
    if len(oldest) < limit:
        return oldest
    given = {
        "newest": _NEWEST_LOOKED_AT,
        "tenants": sorted({job.tenant for job in oldest}),
        "places": limit // _SHARE_OF_NEWCOMERS,
    }
    newcomers = _waiting_jobs(conn, _NEWCOMERS.where(*_not_held(_NEWEST, until)), given)
    return newcomers + oldest[: limit - len(newcomers)]


def _not_held(table: FromClause, twins_until: Mapping[int, float]) -> list[ColumnElement[bool]]:
    """Return the conditions that a row of jobs is none of the twins that were begun later."""
    column = table.c
    return [
        # A submitted job has no switch. Without the first part, the condition would be unknown for it.
        or_(column.switch_id.is_(None), column.switch_id != switch_id, column.created_at <= until)
        for switch_id, until in twins_until.items()
    ]


def _waiting_jobs(conn: Connection, query: Select[Any], given: Mapping[str, object]) -> list[WaitingJob]:
    return [WaitingJob(*row) for row in conn.execute(query, given)]


def mark_offered(conn: Connection, offered: Sequence[WaitingJob], now: float) -> None:
    """Record that these jobs were offered to the broker.

    A job that ended and was retried since it was read has another run. It stays in the outbox.
    """
    runs = sorted((job.job_id, job.run) for job in offered)
    lock_rows(conn, jobs.c.job_id.in_([job_id for job_id, _ in runs]))
    _MARK_OFFERED.run(conn, runs, now=now)


def offer_all_again(conn: Connection) -> int:
    """Put every unfinished job back into the outbox, because the broker is new. Return how many there are."""
    lock_rows(conn, UNFINISHED)
    return conn.execute(update(jobs).where(UNFINISHED).values(offered_at=None)).rowcount


def offered_page(conn: Connection, *, after: str, until: float, limit: int) -> list[OfferedJob]:
    """Return up to `limit` unfinished jobs that were offered by the instant `until`, with ids above `after`.

    They are in the order of their ids.
    """
    query = (
        select(*_PROGRESS)
        .where(UNFINISHED, jobs.c.offered_at <= until, jobs.c.job_id > after)
        .order_by(jobs.c.job_id)
        .limit(limit)
    )
    return [OfferedJob(*row) for row in conn.execute(query)]


def offer_unmoved_again(conn: Connection, seen: Sequence[OfferedJob]) -> int:
    """Put the jobs that did not change since they were seen back into the outbox. Return how many.

    This is a compare-and-set. A job that changed since (by its workers, a cancel, a retry or the offer of
    another leader) is not lost, so it is left alone.
    """
    lock_rows(conn, jobs.c.job_id.in_([job.job_id for job in seen]))
    unmoved = update(jobs).where(UNFINISHED, tuple_(*_PROGRESS).in_(seen)).values(offered_at=None)
    return conn.execute(unmoved).rowcount


_PROGRESS = tuple(jobs.c[name] for name in OfferedJob._fields)

_UNOFFERED = (
    select(jobs.c.job_id, jobs.c.run, jobs.c.tenant, jobs.c.priority, jobs.c.flow, generations.c.chars)
    .join(generations, generations.c.generation_id == jobs.c.generation_id)
    .where(jobs.c.offered_at.is_(None), jobs.c.finished_at.is_(None))
    .order_by(jobs.c.created_at)
)

_OLDEST = _UNOFFERED.limit(bindparam("places"))

_NEWEST = (
    select(jobs)
    .where(jobs.c.offered_at.is_(None), jobs.c.finished_at.is_(None))
    .order_by(jobs.c.created_at.desc())
    .limit(bindparam("newest"))
    .subquery()
)

# It selects from the newest jobs themselves. With `job_id IN (newest)`, PostgreSQL looks through the newest
# for each job that waits while it has no statistics of the table: seconds a pass when 7,000 jobs wait.
_NEWCOMERS = (
    select(
        _NEWEST.c.job_id,
        _NEWEST.c.run,
        _NEWEST.c.tenant,
        _NEWEST.c.priority,
        _NEWEST.c.flow,
        generations.c.chars,
    )
    .join(generations, generations.c.generation_id == _NEWEST.c.generation_id)
    .where(_NEWEST.c.tenant.not_in(bindparam("tenants", expanding=True)))
    .order_by(_NEWEST.c.created_at)
    .limit(bindparam("places"))
)

_MARK_OFFERED = RowsStatement(
    "WITH given(job_id, run) AS (VALUES {rows}) "
    "UPDATE jobs SET offered_at = {now} FROM given WHERE jobs.job_id = given.job_id AND jobs.run = given.run"
)

_WAITING = select(
    select(jobs.c.job_id).where(jobs.c.offered_at.is_(None), jobs.c.finished_at.is_(None)).exists(),
    # The 0 is a literal and not a parameter: only then does SQLite use the partial index.
    select(documents.c.document_id).where(documents.c.cleanup > literal_column("0")).exists(),
    select(searches.c.search_id).where(searches.c.response.is_(None)).exists(),
    select(events.c.event_id).where(events.c.position.is_(None)).exists(),
    select(receipts.c.receipt_id).where(receipts.c.finished_at.is_(None)).exists(),
)
