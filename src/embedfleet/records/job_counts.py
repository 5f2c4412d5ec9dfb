"""Numbers of jobs: by status, by tenant, and sums over what they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, not_, select

from embedfleet.queue_schemas import JobStatus, JobTotals
from embedfleet.records.jobs import SUBMITTED, UNFINISHED
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import generations, jobs

# Bounds the look at unfinished jobs, which the leader takes every few seconds.
_MOST_COUNTED = 100_000


def count_unfinished(conn: Connection, tenants: Sequence[str]) -> dict[str, int]:
    """Count the submitted jobs of each tenant that have not ended. A tenant without any is left out."""
    found: dict[str, int] = {}
    for ids in key_pages(tenants):
        for row in conn.execute(_COUNT_UNFINISHED, {"tenants": ids}):
            found[row.tenant] = row.jobs
    return found


def count_by_status(conn: Connection) -> dict[JobStatus, int]:
    """Count the submitted jobs in each status. A status without jobs is left out.

    What a switch to another model, or a comparison, begins for a document that is there is not among them.
    """
    query = select(jobs.c.status, func.count().label("jobs")).where(SUBMITTED).group_by(jobs.c.status)
    return {JobStatus(row.status): row.jobs for row in conn.execute(query)}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The jobs that are not finished. `oldest` is when the oldest was submitted (Unix seconds), if any is."""

    by_status: Mapping[JobStatus, int]
    oldest: float | None


def unfinished(conn: Connection) -> Unfinished:
    """Count the unfinished jobs by status; of more than 100,000, only the oldest 100,000.

    Partial indexes that hold only unfinished jobs answer it, so it takes no longer as finished jobs gather.
    """
    oldest = conn.execute(_OLDEST_UNFINISHED.limit(1)).first()
    if oldest is None:
        return Unfinished({}, None)
    counted = _OLDEST_UNFINISHED.limit(_MOST_COUNTED).subquery()
    counts = select(counted.c.status, func.count().label("number")).group_by(counted.c.status)
    by_status = {JobStatus(row.status): row.number for row in conn.execute(counts)}
    return Unfinished(by_status, oldest.created_at)


def totals(conn: Connection, scope: Scope, since: float) -> JobTotals:
    """Return sums over the jobs within the scope that were submitted at `since` (Unix seconds) or later.

    The index on tenant and time of creation finds the jobs of one tenant.
    """
    query = _TOTALS.where(SUBMITTED, scope.rows(jobs.c.tenant), jobs.c.created_at >= since)
    return JobTotals(**conn.execute(query).one()._mapping)


# Ids begin with the time of their making, so the first is the oldest.
_OLDEST_UNFINISHED = select(jobs.c.status, jobs.c.created_at).where(UNFINISHED).order_by(jobs.c.job_id)

_COUNT_UNFINISHED = (
    select(jobs.c.tenant, func.count().label("jobs"))
    # Jobs with a line of their own are what an operator had begun: they take nothing of a tenant's limit.
    .where(
        jobs.c.tenant.in_(bindparam("tenants", expanding=True)), UNFINISHED, SUBMITTED, jobs.c.flow.is_(None)
    )
    .group_by(jobs.c.tenant)
)


def _sum_where(which: ColumnElement[bool], what: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((which, what), else_=0)), 0)


_UNSEALED = and_(not_(jobs.c.sealed), UNFINISHED)

_TOTALS = select(
    func.count().label("jobs"),
    func.count(jobs.c.finished_at).label("ended"),
    func.coalesce(func.sum(jobs.c.chunks_stored), 0).label("chunks_stored"),
    func.coalesce(func.sum(jobs.c.chunks_dead), 0).label("chunks_dead"),
    _sum_where(jobs.c.sealed, jobs.c.chunks_total).label("sealed_chunks"),
    _sum_where(jobs.c.sealed, generations.c.chars).label("sealed_chars"),
    _sum_where(_UNSEALED, jobs.c.chunks_total).label("unsealed_chunks"),
    _sum_where(_UNSEALED, generations.c.chars).label("unsealed_chars"),
).select_from(jobs.join(generations, generations.c.generation_id == jobs.c.generation_id))
