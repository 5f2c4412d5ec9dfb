"""The state machine of jobs in SQL. Each run completes exactly once, even if tasks are repeated.

Every transition is an UPDATE whose WHERE names the state that it leaves. So a redelivered task, a stale
worker or two concurrent last batches change nothing twice. The transition of a batch decides which unit
counts it (`batches`), and the final UPDATE of the job succeeds in one unit only. The transitions need no lock
for that. A unit that reads a job and decides by its state must get the job from `lock`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    not_,
    select,
    update,
)

from embedfleet.queue_schemas import JobStatus, JobTotals, UserTier
from embedfleet.records import dead_letters, events
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.sql import document_lock
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.sql_text import storable
from embedfleet.sql.tables import BatchState, batches, documents, generations, jobs

_NOTHING_DONE = {
    "sealed": False,
    "batches_total": 0,
    "batches_embedded": 0,
    "batches_done": 0,
    "chunks_total": 0,
    "chunks_embedded": 0,
    "chunks_stored": 0,
    "chunks_reused": 0,
    "chunks_dead": 0,
}
# What a job counts whose every chunk readers see already.
_CHUNKS_PASSED = ("chunks_total", "chunks_embedded", "chunks_stored", "chunks_reused")

UNFINISHED = jobs.c.finished_at.is_(None)
# Bounds the look at unfinished jobs, which the leader takes every few seconds.
_MOST_COUNTED = 100_000

_LISTING = Listing("jobs", (float, str))

# Instants are shown rounded to microseconds. A filter by the time that a job shows must take that job.
_ROUNDING_SECONDS = 6e-7

_ID_DIGITS = 32
_START_OF_ID = re.compile(rf"job_[0-9a-f]{{0,{_ID_DIGITS}}}")


class BrokenPartition(Exception):
    """The batches of a job do not hold exactly its document's chunks. The document must be chunked again."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`."""

    job_id: str
    tenant: str
    document_id: str
    generation_id: int
    user_tier: UserTier
    priority: int
    status: JobStatus
    reason: str | None
    run: int
    sealed: bool
    batches_total: int
    batches_embedded: int
    batches_done: int
    chunks_total: int
    chunks_embedded: int
    chunks_stored: int
    chunks_reused: int
    chunks_dead: int
    coverage: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    offered_at: float | None


# --- submitting ---


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to write."""

    job_id: str
    tenant: str
    document_id: str
    generation_id: int
    user_tier: UserTier
    priority: int
    created_at: float


def create(conn: Connection, new: Sequence[NewJob]) -> None:
    """Write pending jobs. Their `offered_at` is NULL, which puts them into the outbox."""
    nothing_done = tuple(_NOTHING_DONE.values())
    rows = [
        (*_named(one), JobStatus.PENDING, None, *nothing_done, None, one.created_at, None, None, None)
        for one in new
    ]
    _ADD_JOBS.run(conn, rows)


def create_unchanged(conn: Connection, new: Sequence[NewJob], likes: Mapping[int, Job]) -> None:
    """Write jobs that are completed at once, because they ask for live generations.

    `likes` has, by generation id, a job that made the generation.
    """
    rows = []
    for one in new:
        like = likes[one.generation_id]
        done = _NOTHING_DONE | {"sealed": True} | dict.fromkeys(_CHUNKS_PASSED, like.chunks_total)
        instants = (one.created_at,) * 4
        status = (JobStatus.COMPLETED, "unchanged")
        rows.append((*_named(one), *status, *done.values(), like.coverage, *instants))
    _ADD_JOBS.run(conn, rows)
    events.record(conn, [one.job_id for one in new])


def _named(new: NewJob) -> tuple[Any, ...]:
    """Return the values that the first columns of `_ADD_JOBS` have for a first run."""
    return (
        new.job_id,
        new.tenant,
        new.document_id,
        new.generation_id,
        new.user_tier,
        new.priority,
        1,
    )


# --- looking ---


def get(conn: Connection, job_id: str) -> Job | None:
    """Return the job, or None. It may change before the unit ends; `lock` prevents that."""
    row = conn.execute(_GET, {"job": job_id}).one_or_none()
    return None if row is None else job_of(row)


def lock(conn: Connection, job_id: str) -> Job | None:
    """Lock the job's document and return the job, or None. The job does not change until the unit ends."""
    return lock_many(conn, [job_id]).get(job_id)


def lock_many(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Lock the documents of several jobs, and return the jobs that exist, by id.

    A unit calls this once, for all of its jobs, so that it locks documents in the order of their ids.
    """
    found = get_many(conn, job_ids)  # safe before the lock: the document of a job never changes
    waited = document_lock.lock(conn, (job.document_id for job in found.values()))
    return get_locked(conn, job_ids) if waited else found


def get_locked(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Return the jobs with these ids, by id, and lock their rows. The caller holds the documents' locks.

    The outbox changes jobs without these locks. An UPDATE of several jobs locks them in an order of its own,
    so the unit locks them here by id, as the outbox does. Then the two cannot wait in a circle.
    """
    found: dict[str, Job] = {}
    for ids in key_pages(sorted(set(job_ids))):
        for row in conn.execute(_GET_LOCKED, {"ids": ids}).all():
            found[row.job_id] = job_of(row)
    return found


def get_many(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Return the jobs with these ids, by id. Unknown jobs are left out."""
    found: dict[str, Job] = {}
    for ids in key_pages(job_ids):
        for row in conn.execute(_GET_MANY, {"ids": ids}).all():
            found[row.job_id] = job_of(row)
    return found


def newest_of_generations(conn: Connection, generation_ids: Sequence[int]) -> dict[int, Job]:
    """Return the newest job of each generation, by generation id. A generation without a job is left out."""
    found: dict[int, Job] = {}
    for ids in key_pages(generation_ids):
        for row in conn.execute(_NEWEST_OF_GENERATIONS, {"ids": ids}):
            found[row.generation_id] = job_of(row)
    return found


def newest_of_document(conn: Connection, document_id: str) -> Job | None:
    """Return the job of the document that was submitted last; None if it has none."""
    query = select(jobs).where(jobs.c.document_id == document_id)
    row = conn.execute(query.order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc()).limit(1)).one_or_none()
    return None if row is None else job_of(row)


def unfinished_of_documents(conn: Connection, document_ids: Sequence[str]) -> dict[str, list[Job]]:
    """Return the jobs of each document that have not ended. A document without any is left out."""
    found: dict[str, list[Job]] = {}
    for ids in key_pages(document_ids):
        for row in conn.execute(_UNFINISHED_OF_DOCUMENTS, {"ids": ids}):
            found.setdefault(row.document_id, []).append(job_of(row))
    return found


def unfinished_among(conn: Connection, job_ids: Sequence[str]) -> set[str]:
    """Return which of these jobs exist and have not ended."""
    found: set[str] = set()
    for ids in key_pages(job_ids):
        found.update(conn.execute(_UNFINISHED_AMONG, {"ids": ids}).scalars())
    return found


def ids_that_start_with(conn: Connection, scope: Scope, start: str, limit: int) -> list[str]:
    """Return up to `limit` ids of jobs within the scope that start with this text, in order.

    It reads a range of the primary key. A text that no id starts with finds the job of exactly that id.
    """
    first = last = start
    if _START_OF_ID.fullmatch(start):
        # Both ends are as long as an id, so every collation of a database orders them as their digits.
        first, last = (start.ljust(len("job_") + _ID_DIGITS, digit) for digit in "0f")
    query = select(jobs.c.job_id).where(jobs.c.job_id.between(first, last), scope.rows(jobs.c.tenant))
    return list(conn.execute(query.order_by(jobs.c.job_id).limit(limit)).scalars())


def tenants_of(conn: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """Return the tenant of each of these jobs, by job id. Unknown jobs are left out."""
    found: dict[str, str] = {}
    for ids in key_pages(job_ids):
        found.update((row.job_id, row.tenant) for row in conn.execute(_TENANTS_OF, {"ids": ids}))
    return found


def count_unfinished(conn: Connection, tenants: Sequence[str]) -> dict[str, int]:
    """Count the jobs of each tenant that have not ended. A tenant without any is left out."""
    found: dict[str, int] = {}
    for ids in key_pages(tenants):
        for row in conn.execute(_COUNT_UNFINISHED, {"tenants": ids}):
            found[row.tenant] = row.jobs
    return found


def count_by_status(conn: Connection) -> dict[JobStatus, int]:
    """Count the jobs in each status. A status without jobs is left out."""
    query = select(jobs.c.status, func.count().label("jobs")).group_by(jobs.c.status)
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
    """Return sums over the jobs within the scope that were created at `since` (Unix seconds) or later.

    The index on tenant and time of creation finds the jobs of one tenant.
    """
    query = _TOTALS.where(scope.rows(jobs.c.tenant), jobs.c.created_at >= since)
    return JobTotals(**conn.execute(query).one()._mapping)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; None: whatever they have. The times are of the submission, half-open.

    `media_id` is the tenant's own id of a document.
    """

    status: JobStatus | None = None
    media_id: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """Add the conditions to a query of `jobs`."""
        if self.status is not None:
            query = query.where(jobs.c.status == self.status)
        if self.media_id is not None:
            named = select(documents.c.document_id).where(
                documents.c.tenant == jobs.c.tenant, documents.c.media_id == self.media_id
            )
            query = query.where(jobs.c.document_id == named.scalar_subquery())
        if self.created_from is not None:
            query = query.where(jobs.c.created_at >= self.created_from.timestamp() - _ROUNDING_SECONDS)
        if self.created_before is not None:
            query = query.where(jobs.c.created_at < self.created_before.timestamp() - _ROUNDING_SECONDS)
        return query


def page(conn: Connection, scope: Scope, *, which: JobFilter, limit: int, after: str | None) -> Page[Job]:
    """Return up to `limit` of these jobs within the scope, newest first."""
    query = which.narrow(select(jobs).where(scope.rows(jobs.c.tenant)))
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.job_id).limit(limit + 1)
    if after is not None:
        created_at, job_id = _LISTING.key_after(after)
        # The first condition alone bounds the range of the index that is read.
        query = query.where(
            jobs.c.created_at <= created_at, (jobs.c.created_at < created_at) | (jobs.c.job_id > job_id)
        )
    found = [job_of(row) for row in conn.execute(query)]
    return _LISTING.page(found, limit, lambda job: (job.created_at, job.job_id))


# --- moving ---


def start_chunking(conn: Connection, job_ids: Sequence[str], now: float) -> None:
    """Move those of the jobs that are pending to chunking, and note the start of those that have none."""
    for ids in key_pages(job_ids):
        conn.execute(_START_CHUNKING, {"ids": ids, "now": now})


def restart_partition(conn: Connection, job_id: str, now: float) -> None:
    """Delete the job's batches and set its counters to zero, because its document will be cut again."""
    conn.execute(delete(batches).where(batches.c.job_id == job_id))
    dead_letters.mark_requeued(conn, job_id, now)
    conn.execute(update(jobs).where(jobs.c.job_id == job_id).values(_NOTHING_DONE))


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The final size of a job whose document is chunked to the end. `coverage` is a share, 0 to 1."""

    job_id: str
    chunks_total: int
    coverage: float


def seal(conn: Connection, ends: Sequence[JobEnd], now: float) -> dict[str, BrokenPartition]:
    """Record the final sizes of these jobs, and their start if they have none.

    A job whose written batches do not hold exactly the chunks made is not changed; its failure is returned.
    """
    written: dict[str, tuple[int, int]] = {}
    for ids in key_pages([end.job_id for end in ends]):
        written |= {row.job_id: (row.batches, row.chunks) for row in conn.execute(_WRITTEN, {"ids": ids})}
    right: list[tuple[str, int, float]] = []
    broken: dict[str, BrokenPartition] = {}
    for end in ends:
        count, chunks = written.get(end.job_id, (0, 0))
        if chunks == end.chunks_total:
            right.append((end.job_id, count, end.coverage))
        else:
            broken[end.job_id] = BrokenPartition(
                f"job {end.job_id}: {end.chunks_total} chunks made, {chunks} in its batches"
            )
    _SEAL.run(conn, right, now=now, sealed=True)
    return broken


def complete_done(conn: Connection, job_ids: Sequence[str], now: float) -> dict[str, JobStatus]:
    """Finish those of the jobs that are sealed and whose every batch is done.

    Returns the final status of each job that this call finished. Of all calls for one run of a job, one
    finishes it. A job without any stored chunk has failed, if it has dead chunks.
    """
    finished: dict[str, JobStatus] = {}
    for ids in key_pages(job_ids):
        for row in conn.execute(_COMPLETE, {"ids": ids, "now": now}):
            finished[row.job_id] = JobStatus(row.status)
    events.record(conn, list(finished))
    return finished


def finish(
    conn: Connection, job_ids: Sequence[str], status: JobStatus, *, reason: str, now: float
) -> dict[str, int]:
    """End those of the jobs that have not ended, as failed or cancelled.

    Returns the generation ids of the jobs that this call ended, by job id.
    """
    ended: dict[str, int] = {}
    for ids in key_pages(job_ids):
        lock_rows(conn, jobs.c.job_id.in_(ids))
        given = {"ids": ids, "new": status, "why": storable(reason), "now": now}
        ended.update((row.job_id, row.generation_id) for row in conn.execute(_FINISH, given))
    events.record(conn, list(ended))
    return ended


def reopen(conn: Connection, job_id: str, now: float) -> None:
    """Make an ended job pending again, as its next run. Its batches with dead chunks become pending too."""
    retry = (batches.c.job_id == job_id) & (batches.c.dead > 0)
    sums = conn.execute(
        select(
            func.count().label("batches"),
            func.coalesce(func.sum(batches.c.chunks), 0).label("chunks"),
            func.coalesce(func.sum(batches.c.dead), 0).label("dead"),
        ).where(retry)
    ).one()
    conn.execute(update(batches).where(retry).values(state=BatchState.PENDING, dead=0))
    dead_letters.mark_requeued(conn, job_id, now)
    conn.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(
            status=JobStatus.PENDING,
            run=jobs.c.run + 1,
            reason=None,
            finished_at=None,
            offered_at=None,
            batches_embedded=jobs.c.batches_embedded - sums.batches,
            batches_done=jobs.c.batches_done - sums.batches,
            chunks_embedded=jobs.c.chunks_embedded - sums.chunks,
            chunks_stored=jobs.c.chunks_stored - (sums.chunks - sums.dead),
            chunks_dead=jobs.c.chunks_dead - sums.dead,
        )
    )


def drop_of_document(conn: Connection, document_id: str) -> None:
    """Drop a deleted document's jobs, with their batches and dead letters."""
    mine = select(jobs.c.job_id).where(jobs.c.document_id == document_id)
    conn.execute(delete(batches).where(batches.c.job_id.in_(mine)))
    dead_letters.drop_of_document(conn, document_id)
    conn.execute(delete(jobs).where(jobs.c.document_id == document_id))


def lock_rows(conn: Connection, which: ColumnElement[bool]) -> None:
    """Lock the jobs' rows by id, as all units do (`document_lock`), so that no two wait in a circle."""
    if conn.dialect.name != "sqlite":
        conn.execute(select(jobs.c.job_id).where(which).order_by(jobs.c.job_id).with_for_update()).all()


def earliest_stage_left(embedded: str, total: str) -> str:
    """Return SQL for the status of a sealed, unfinished job: its earliest stage that has work left.

    `embedded` and `total` are SQL for its number of embedded batches and of all batches.
    """
    return f"CASE WHEN {embedded} < {total} THEN '{JobStatus.EMBEDDING}' ELSE '{JobStatus.STORING}' END"


# Statements of the hot path are built once: SQLAlchemy takes longer to compose one than to run it.

_GET = select(jobs).where(jobs.c.job_id == bindparam("job"))

# Ids begin with the time of their making, so the first is the oldest.
_OLDEST_UNFINISHED = select(jobs.c.status, jobs.c.created_at).where(UNFINISHED).order_by(jobs.c.job_id)

_UNFINISHED_OF_DOCUMENTS = select(jobs).where(
    jobs.c.document_id.in_(bindparam("ids", expanding=True)), UNFINISHED
)

_COUNT_UNFINISHED = (
    select(jobs.c.tenant, func.count().label("jobs"))
    .where(jobs.c.tenant.in_(bindparam("tenants", expanding=True)), UNFINISHED)
    .group_by(jobs.c.tenant)
)

_UNFINISHED_AMONG = select(jobs.c.job_id).where(
    jobs.c.job_id.in_(bindparam("ids", expanding=True)), UNFINISHED
)

_TENANTS_OF = select(jobs.c.job_id, jobs.c.tenant).where(jobs.c.job_id.in_(bindparam("ids", expanding=True)))

_RANKED = (
    select(
        jobs.c.job_id,
        func.row_number()
        .over(partition_by=jobs.c.generation_id, order_by=(jobs.c.created_at.desc(), jobs.c.job_id))
        .label("rank"),
    )
    .where(jobs.c.generation_id.in_(bindparam("ids", expanding=True)))
    .subquery()
)

_NEWEST_OF_GENERATIONS = (
    select(jobs).join(_RANKED, _RANKED.c.job_id == jobs.c.job_id).where(_RANKED.c.rank == 1)
)

_GET_MANY = select(jobs).where(jobs.c.job_id.in_(bindparam("ids", expanding=True)))

# SQLite has one writer at a time and knows no FOR UPDATE, so SQLAlchemy leaves it out there.
_GET_LOCKED = _GET_MANY.order_by(jobs.c.job_id).with_for_update()


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

_START_CHUNKING = (
    update(jobs)
    .where(jobs.c.job_id.in_(bindparam("ids", expanding=True)), UNFINISHED)
    .values(
        status=case((jobs.c.status == JobStatus.PENDING, JobStatus.CHUNKING), else_=jobs.c.status),
        started_at=func.coalesce(jobs.c.started_at, bindparam("now", type_=Float)),
    )
)

# The values of a row follow in this order, see `create`.
_ADD_JOBS = RowsStatement(
    "INSERT INTO jobs (job_id, tenant_id, document_id, generation_id, user_tier, priority, run, "
    f"status, reason, {', '.join(_NOTHING_DONE)}, coverage, "
    "created_at, started_at, finished_at, offered_at) VALUES {rows}"
)

_WRITTEN = (
    select(batches.c.job_id, func.count().label("batches"), func.sum(batches.c.chunks).label("chunks"))
    .where(batches.c.job_id.in_(bindparam("ids", expanding=True)))
    .group_by(batches.c.job_id)
)

_SEAL = RowsStatement(
    "WITH given(job_id, total, covered) AS (VALUES {rows}) "
    "UPDATE jobs SET sealed = {sealed}, started_at = COALESCE(started_at, {now}), "
    "batches_total = given.total, coverage = given.covered, "
    f"status = {earliest_stage_left('batches_embedded', 'given.total')} "
    "FROM given WHERE jobs.job_id = given.job_id AND finished_at IS NULL"
)

_FINISH = (
    update(jobs)
    .where(jobs.c.job_id.in_(bindparam("ids", expanding=True)), UNFINISHED)
    .values(status=bindparam("new"), reason=bindparam("why"), finished_at=bindparam("now"))
    .returning(jobs.c.job_id, jobs.c.generation_id)
)

_COMPLETE = (
    update(jobs)
    .where(
        jobs.c.job_id.in_(bindparam("ids", expanding=True)),
        UNFINISHED,
        jobs.c.sealed,
        jobs.c.batches_done == jobs.c.batches_total,
    )
    .values(
        finished_at=bindparam("now"),
        status=case(
            (jobs.c.chunks_dead == 0, JobStatus.COMPLETED),
            (jobs.c.chunks_stored == 0, JobStatus.FAILED),
            else_=JobStatus.COMPLETED_WITH_ERRORS,
        ),
        reason=case(
            (jobs.c.chunks_dead == 0, None),
            else_=cast(jobs.c.chunks_dead, Text)
            + " of "
            + cast(jobs.c.chunks_total, Text)
            + " chunks failed",
        ),
    )
    .returning(jobs.c.job_id, jobs.c.status)
)


def job_of(row: Row[Any]) -> Job:
    """Build the job from a row that has the columns of `jobs`, and maybe others."""
    values = list(_JOB_COLUMNS(row._mapping))
    values[_USER_TIER] = UserTier(values[_USER_TIER])
    values[_STATUS] = JobStatus(values[_STATUS])
    return Job(*values)


# A claim reads many jobs. To read all columns in one call takes a fifth of the time of one call for each.
_NAMES = [field.name for field in fields(Job)]
_JOB_COLUMNS = itemgetter(*_NAMES)
_USER_TIER, _STATUS = _NAMES.index("user_tier"), _NAMES.index("status")
