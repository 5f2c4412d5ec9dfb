"""How much work is left, and how much of it goes before a job. It is counted in characters of documents.

Partial indexes that hold only unfinished jobs answer it, so it takes no longer as finished jobs gather.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Float, and_, bindparam, case, cast, func, select

from embedfleet.queue_schemas import JobStatus
from embedfleet.records.jobs import UNFINISHED
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import generations, jobs

# Bounds a look that a process takes again and again. What is beyond it is counted as no work.
_MOST_JOBS = 100_000


@dataclass(frozen=True, slots=True)
class Work:
    """Unfinished jobs, and about how many characters of their documents are not stored yet.

    `by_status` counts the jobs; it is empty where it was not asked for.
    """

    jobs: int = 0
    chars: float = 0.0
    by_status: Mapping[JobStatus, int] = field(default_factory=dict)

    def __add__(self, other: Work) -> Work:
        counts = Counter(self.by_status)
        counts.update(other.by_status)
        return Work(self.jobs + other.jobs, self.chars + other.chars, dict(counts))


_NO_WORK = Work()


def by_tenant(conn: Connection) -> Mapping[str, Work]:
    """Return the work of each tenant that has some; of more than 100,000 jobs, only that of the oldest."""
    found: dict[str, Work] = {}
    for row in conn.execute(_BY_TENANT):
        some = Work(row.jobs, float(row.chars), {JobStatus(row.status): row.jobs})
        found[row.tenant] = found.get(row.tenant, _NO_WORK) + some
    return found


def unoffered_before(conn: Connection, created_at: float) -> int:
    """Count the jobs that wait for their offer to the broker and were submitted before this instant."""
    return int(conn.execute(_UNOFFERED_BEFORE, {"at": created_at}).scalar_one())


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is left of a job (`chars`), and the jobs of its tenant that go first."""

    chars: float
    first: Work


def ahead_of(conn: Connection, job_ids: Sequence[str]) -> dict[str, Ahead]:
    """Return what goes before each of these jobs, by job id. A job that has ended is left out.

    In the line of a tenant, higher priority goes first, then what was submitted earlier.
    """
    found: dict[str, Ahead] = {}
    for ids in key_pages(job_ids):
        for row in conn.execute(_AHEAD_OF, {"ids": ids}):
            found[row.job_id] = Ahead(float(row.chars), Work(row.jobs, float(row.ahead or 0.0)))
    return found


# The share of a document that is stored is known once all of it is cut. Until then all of it counts as left:
# to cut is quick, and to wait for its embedding is not.
_CHUNKS_LEFT = jobs.c.chunks_total - jobs.c.chunks_stored - jobs.c.chunks_dead
_SHARE_LEFT = case(
    (and_(jobs.c.sealed, jobs.c.chunks_total > 0), cast(_CHUNKS_LEFT, Float) / jobs.c.chunks_total),
    else_=1.0,
)
_LEFT = select(
    jobs.c.job_id,
    jobs.c.tenant,
    jobs.c.status,
    jobs.c.priority,
    jobs.c.created_at,
    (generations.c.chars * _SHARE_LEFT).label("chars"),
).select_from(jobs.join(generations, generations.c.generation_id == jobs.c.generation_id))

_OLDEST = _LEFT.where(UNFINISHED).order_by(jobs.c.job_id).limit(_MOST_JOBS).subquery()
_BY_TENANT = select(
    _OLDEST.c.tenant,
    _OLDEST.c.status,
    func.count().label("jobs"),
    func.sum(_OLDEST.c.chars).label("chars"),
).group_by(_OLDEST.c.tenant, _OLDEST.c.status)

_UNOFFERED_BEFORE = select(func.count()).where(
    jobs.c.offered_at.is_(None), UNFINISHED, jobs.c.created_at < bindparam("at")
)

# One sorted walk over the unfinished jobs of these tenants answers for all jobs asked for. A join of each of
# them with all jobs before it would take hundreds of times as long for hundreds of jobs.
_OF_THEIR_TENANTS = _LEFT.where(
    UNFINISHED,
    jobs.c.tenant.in_(select(jobs.c.tenant).where(jobs.c.job_id.in_(bindparam("ids", expanding=True)))),
).subquery()
_LINE: dict[str, Any] = {
    "partition_by": _OF_THEIR_TENANTS.c.tenant,
    "order_by": (
        _OF_THEIR_TENANTS.c.priority.desc(),
        _OF_THEIR_TENANTS.c.created_at,
        _OF_THEIR_TENANTS.c.job_id,
    ),
}
_IN_LINE = select(
    _OF_THEIR_TENANTS.c.job_id,
    _OF_THEIR_TENANTS.c.chars,
    (func.row_number().over(**_LINE) - 1).label("jobs"),
    func.sum(_OF_THEIR_TENANTS.c.chars).over(**_LINE, rows=(None, -1)).label("ahead"),
).subquery()
_AHEAD_OF = select(_IN_LINE).where(_IN_LINE.c.job_id.in_(bindparam("ids", expanding=True)))
