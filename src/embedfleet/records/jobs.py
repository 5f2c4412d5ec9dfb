"""Jobs: how they are written, found, locked and begun. How they end is in `records.job_completion`.

Every transition is an UPDATE whose WHERE names the state that it leaves. The transition of a batch decides
which unit counts it (`batches`). The transitions need no lock for that. A unit that reads a job and decides
by its state must get the job from `lock`.
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
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)

from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.records import dead_letters, events
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.sql import document_lock
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.tables import batches, documents, jobs

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

SUBMITTED = jobs.c.switch_id.is_(None)
"""The jobs that were submitted. A switch to another model makes jobs of its own (`model_switches`)."""

CANCELLED = "cancelled"
"""The reason of a job that its tenant or an operator has cancelled."""

DONE = and_(jobs.c.sealed, jobs.c.batches_done == jobs.c.batches_total)
"""The jobs in which nothing is left to do. They end in the same unit, unless they wait for another job."""

_LISTING = Listing("jobs", (float, str))

# Instants are shown rounded to microseconds. A filter by the time that a job shows must take that job.
_ROUNDING_SECONDS = 6e-7

_ID_DIGITS = 32
_START_OF_ID = re.compile(rf"job_[0-9a-f]{{0,{_ID_DIGITS}}}")


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
    switch_id: int | None
    flow: str | None
    route: str | None

    @property
    def line(self) -> str:
        """The line in which its tasks queue, among those that the broker serves fairly."""
        return self.flow or self.tenant


# --- submitting ---


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to write. `switch_id` and `flow` are set if a switch to another model makes it.

    `route` says why its document got its model; None: the caller named the model.
    """

    job_id: str
    tenant: str
    document_id: str
    generation_id: int
    user_tier: UserTier
    priority: int
    created_at: float
    switch_id: int | None = None
    flow: str | None = None
    route: str | None = None


def create(conn: Connection, new: Sequence[NewJob]) -> None:
    """Write pending jobs. Their `offered_at` is NULL, which puts them into the outbox."""
    not_begun = (JobStatus.PENDING, None, *_NOTHING_DONE.values(), None)
    rows = [
        (*_named(one), *not_begun, one.created_at, None, None, None, *(one.switch_id, one.flow, one.route))
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
        rows.append((*_named(one), *status, *done.values(), like.coverage, *instants, None, None, one.route))
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
    statement = _GET_MANY if conn.dialect.name == "sqlite" else _GET_LOCKED
    return _by_id(statement.run(conn, [(job_id,) for job_id in sorted(set(job_ids))]))


def get_many(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Return the jobs with these ids, by id. Unknown jobs are left out."""
    return _by_id(_GET_MANY.run(conn, [(job_id,) for job_id in sorted(set(job_ids))]))


def newest_of_generations(conn: Connection, generation_ids: Sequence[int]) -> dict[int, Job]:
    """Return the newest job of each generation, by generation id. A generation without a job is left out."""
    found: dict[int, Job] = {}
    for ids in key_pages(generation_ids):
        for row in conn.execute(_NEWEST_OF_GENERATIONS, {"ids": ids}):
            found[row.generation_id] = job_of(row)
    return found


def newest_of_document(conn: Connection, document_id: str) -> Job | None:
    """Return the job of the document that was submitted last; None if it has none."""
    query = select(jobs).where(jobs.c.document_id == document_id, SUBMITTED)
    row = conn.execute(query.order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc()).limit(1)).one_or_none()
    return None if row is None else job_of(row)


def unfinished_of_documents(conn: Connection, document_ids: Sequence[str]) -> dict[str, list[Job]]:
    """Return the jobs of each document that have not ended. A document without any is left out."""
    found: dict[str, list[Job]] = {}
    for ids in key_pages(document_ids):
        for row in conn.execute(_UNFINISHED_OF_DOCUMENTS, {"ids": ids}):
            found.setdefault(row.document_id, []).append(job_of(row))
    return found


def done_of_documents(conn: Connection, document_ids: Sequence[str]) -> dict[str, Job]:
    """Return the jobs of these documents that are done and have not ended, by id, and lock their rows.

    While a switch to another model is under way, a job may wait for another one of its document. The caller
    holds the documents' locks.
    """
    ids: list[str] = []
    for page in key_pages(sorted(set(document_ids))):
        ids += conn.execute(_DONE_OF_DOCUMENTS, {"ids": page}).scalars()
    return get_locked(conn, ids)


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
    """Return up to `limit` of these submitted jobs within the scope, newest first."""
    query = which.narrow(select(jobs).where(SUBMITTED, scope.rows(jobs.c.tenant)))
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


# Statements of the hot path are built once: SQLAlchemy takes longer to compose one than to run it.

_GET = select(jobs).where(jobs.c.job_id == bindparam("job"))

_UNFINISHED_OF_DOCUMENTS = select(jobs).where(
    jobs.c.document_id.in_(bindparam("ids", expanding=True)), UNFINISHED
)

_DONE_OF_DOCUMENTS = select(jobs.c.job_id).where(
    jobs.c.document_id.in_(bindparam("ids", expanding=True)), UNFINISHED, DONE
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

_NAMES = [field.name for field in fields(Job)]

_COLUMNS = ", ".join(f"jobs.{jobs.c[name].name}" for name in _NAMES)
_MANY = (
    f"WITH given(job_id) AS (VALUES {{rows}}) SELECT {_COLUMNS} "
    "FROM given JOIN jobs ON jobs.job_id = given.job_id"
)
_GET_MANY = RowsStatement(_MANY)

# SQLite has one writer at a time and knows no FOR UPDATE.
_GET_LOCKED = RowsStatement(f"{_MANY} ORDER BY jobs.job_id FOR UPDATE OF jobs")


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
    "created_at, started_at, finished_at, offered_at, switch_id, flow, route) VALUES {rows}"
)


def job_of(row: Row[Any]) -> Job:
    """Build the job from a row that has the columns of `jobs`, and maybe others."""
    return _job(_JOB_COLUMNS(row._mapping))


def _by_id(rows: Sequence[Sequence[Any]]) -> dict[str, Job]:
    """Build the jobs from rows that have their columns in order, by job id."""
    return {job.job_id: job for job in map(_job, rows)}


def _job(columns: Sequence[Any]) -> Job:
    values = list(columns)
    values[_USER_TIER] = UserTier(values[_USER_TIER])
    values[_STATUS] = JobStatus(values[_STATUS])
    values[_SEALED] = bool(values[_SEALED])  # the driver of SQLite has no booleans
    return Job(*values)


# A claim reads many jobs. To read all columns in one call takes a fifth of the time of one call for each.
_JOB_COLUMNS = itemgetter(*_NAMES)
_USER_TIER, _STATUS, _SEALED = map(_NAMES.index, ("user_tier", "status", "sealed"))
