"""The job state machine in SQL: exactly one completion, whatever is replayed.

Every transition is an UPDATE whose WHERE names the state it leaves, and counters move only when a row did.
So a redelivered task, a stale worker or two "last" batches change nothing twice: the batch's transition
decides who counts, and the job's final UPDATE has one winner. That alone needs no lock; a unit that also
decides by what it has read of a job gets it by `lock`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Row,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    not_,
    select,
    true,
    tuple_,
    update,
)

from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.records import dead_letters, events
from embedfleet.records.batches import Batch, batches_of
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.scope import Scope
from embedfleet.sql import document_lock
from embedfleet.sql.paging import pages
from embedfleet.sql.sql_text import storable
from embedfleet.sql.tables import BatchState, batches, generations, jobs

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
_UNFINISHED = jobs.c.finished_at.is_(None)
# One of these changes whenever a job's tasks move, or are offered.
_MOVES = ("job_id", "run", "offered_at", "batches_embedded", "batches_done", "chunks_total")


class BrokenPartition(Exception):
    """A job's batches do not add up to its document: it must be chunked again, not completed."""


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


def create(
    conn: Connection,
    *,
    job_id: str,
    tenant: str,
    document_id: str,
    generation_id: int,
    user_tier: UserTier,
    priority: int,
    now: float,
) -> None:
    """A pending job; `offered_at` NULL puts it into the outbox."""
    conn.execute(
        _ADD_JOB,
        {
            "job_id": job_id,
            "tenant": tenant,
            "document_id": document_id,
            "generation_id": generation_id,
            "user_tier": user_tier,
            "priority": priority,
            "status": JobStatus.PENDING,
            "run": 1,
            "created_at": now,
            **_NOTHING_DONE,
        },
    )


def create_unchanged(
    conn: Connection, *, job_id: str, like: Job, user_tier: UserTier, priority: int, now: float
) -> None:
    """A job that is complete at once: the document's live version, made by `like`, is what was asked for."""
    create(
        conn,
        job_id=job_id,
        tenant=like.tenant,
        document_id=like.document_id,
        generation_id=like.generation_id,
        user_tier=user_tier,
        priority=priority,
        now=now,
    )
    conn.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(
            status=JobStatus.COMPLETED,
            reason="unchanged",
            sealed=True,
            chunks_total=like.chunks_total,
            chunks_embedded=like.chunks_total,
            chunks_stored=like.chunks_total,
            chunks_reused=like.chunks_total,
            coverage=like.coverage,
            offered_at=now,
            started_at=now,
            finished_at=now,
        )
    )
    events.record(conn, job_id)


# --- the outbox ---


def unoffered(conn: Connection, limit: int) -> list[tuple[Job, int]]:
    """Unfinished jobs the broker has not been told of, oldest first, each with its document's characters."""
    query = (
        select(jobs, generations.c.chars)
        .join(generations, generations.c.generation_id == jobs.c.generation_id)
        .where(jobs.c.offered_at.is_(None), _UNFINISHED)
        .order_by(jobs.c.created_at)
        .limit(limit)
    )
    return [(_job(row), row.chars) for row in conn.execute(query)]


def mark_offered(conn: Connection, offered: Iterable[Job], now: float) -> None:
    """The broker knows these jobs. One that was ended and retried meanwhile is to be offered again."""
    runs = sorted((job.job_id, job.run) for job in offered)
    _lock_rows(conn, jobs.c.job_id.in_([job_id for job_id, _ in runs]))
    conn.execute(update(jobs).where(tuple_(jobs.c.job_id, jobs.c.run).in_(runs)).values(offered_at=now))


def offer_all_again(conn: Connection) -> int:
    """Put every unfinished job back into the outbox: the broker is new and knows none."""
    _lock_rows(conn, _UNFINISHED)
    return conn.execute(update(jobs).where(_UNFINISHED).values(offered_at=None)).rowcount


def offered_page(conn: Connection, *, after: str, limit: int) -> list[Job]:
    """Unfinished jobs from `after` on by job id, leaving out those still in the outbox; `after` may have
    finished meanwhile."""
    query = (
        select(jobs)
        .where(_UNFINISHED, jobs.c.offered_at.is_not(None), jobs.c.job_id > after)
        .order_by(jobs.c.job_id)
        .limit(limit)
    )
    return [_job(row) for row in conn.execute(query)]


def offer_unmoved_again(conn: Connection, seen: Sequence[Job]) -> int:
    """Put those jobs back into the outbox that are exactly as they were seen; returns how many.

    Whoever moved a job meanwhile (its workers, a cancel, a retry, another leader's offer) knows better."""
    columns = tuple_(*(jobs.c[name] for name in _MOVES))
    states = [tuple(getattr(job, name) for name in _MOVES) for job in seen]
    _lock_rows(conn, jobs.c.job_id.in_([job.job_id for job in seen]))
    unmoved = update(jobs).where(_UNFINISHED, columns.in_(states)).values(offered_at=None)
    return conn.execute(unmoved).rowcount


def unfinished_among(conn: Connection, job_ids: Sequence[str]) -> set[str]:
    query = select(jobs.c.job_id).where(jobs.c.job_id.in_(job_ids), _UNFINISHED)
    return set(conn.execute(query).scalars())


def _lock_rows(conn: Connection, which: ColumnElement[bool]) -> None:
    """Wait for the jobs' rows in the order in which everybody does (`document_lock`)."""
    if conn.dialect.name != "sqlite":
        conn.execute(select(jobs.c.job_id).where(which).order_by(jobs.c.job_id).with_for_update()).all()


# --- looking ---


def get(conn: Connection, job_id: str) -> Job | None:
    row = conn.execute(_GET, {"job": job_id}).one_or_none()
    return None if row is None else _job(row)


def has_ended(conn: Connection, job_id: str) -> bool:
    """Also of a job that does not exist."""
    return conn.execute(_UNFINISHED_ONE, {"job": job_id}).scalar() is None


def lock(conn: Connection, job_id: str) -> Job | None:
    """The job as it is now and stays until the unit ends: its document is locked."""
    return lock_many(conn, [job_id]).get(job_id)


def lock_many(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """`lock` for several, which must be called once in a unit, for all."""
    found = get_many(conn, job_ids)  # a job's document never changes
    waited = document_lock.lock(conn, (job.document_id for job in found.values()))
    return get_many(conn, job_ids) if waited else found


def get_many(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    found: dict[str, Job] = {}
    for ids in pages(job_ids):
        for row in conn.execute(_GET_MANY, {"ids": ids}):
            found[row.job_id] = _job(row)
    return found


def newest_of_generation(conn: Connection, generation_id: int) -> Job | None:
    """The job that last worked on this version."""
    query = select(jobs).where(jobs.c.generation_id == generation_id)
    row = conn.execute(query.order_by(jobs.c.created_at.desc()).limit(1)).one_or_none()
    return None if row is None else _job(row)


def unfinished_of_document(conn: Connection, document_id: str) -> list[Job]:
    return [_job(row) for row in conn.execute(_UNFINISHED_OF_DOCUMENT, {"document": document_id})]


def count_unfinished(conn: Connection, tenant: str) -> int:
    query = select(func.count()).where(jobs.c.tenant == tenant, _UNFINISHED)
    return int(conn.execute(query).scalar_one())


def count_by_status(conn: Connection) -> dict[JobStatus, int]:
    """How many jobs there are in each status; statuses without any are left out."""
    query = select(jobs.c.status, func.count().label("jobs")).group_by(jobs.c.status)
    return {JobStatus(row.status): row.jobs for row in conn.execute(query)}


def page(
    conn: Connection,
    scope: Scope,
    *,
    status: JobStatus | None,
    limit: int,
    before: float | None,
) -> list[Job]:
    """Jobs within the scope, newest first: of this status, created before that instant, if they are given."""
    query = select(jobs).where(scope.rows(jobs.c.tenant))
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.job_id).limit(limit)
    if status is not None:
        query = query.where(jobs.c.status == status)
    if before is not None:
        query = query.where(jobs.c.created_at < before)
    return [_job(row) for row in conn.execute(query)]


# --- moving ---


def start_chunking(conn: Connection, job_id: str, now: float) -> bool:
    """False if the job is finished (or gone): there is nothing to do."""
    return bool(conn.execute(_START_CHUNKING, {"job": job_id, "now": now}).rowcount)


def add_batches(conn: Connection, job_id: str, made: Sequence[Batch]) -> list[Batch]:
    """Write the batches a chunking worker made; returns those that still need embedding.

    A replay finds its batches there already, counts nothing again and skips the finished ones.
    """
    before = batches_of(conn, job_id, [batch.ordinal for batch in made])
    new = [batch for batch in made if batch.ordinal not in before]
    if new:
        conn.execute(
            _ADD_BATCH,
            [
                {
                    "job_id": job_id,
                    "ordinal": batch.ordinal,
                    "state": BatchState.PENDING,
                    "first_chunk": batch.first_chunk,
                    "chunks": batch.chunks,
                    "dead": 0,
                }
                for batch in new
            ],
        )
        conn.execute(_ADD_CHUNKS, {"job": job_id, "more": sum(batch.chunks for batch in new)})
    done = {ordinal for ordinal, batch in before.items() if batch.state is BatchState.DONE}
    return [batch for batch in made if batch.ordinal not in done]


def restart_partition(conn: Connection, job_id: str, now: float) -> None:
    """Forget the job's batches: its document will be cut anew."""
    conn.execute(delete(batches).where(batches.c.job_id == job_id))
    dead_letters.mark_requeued(conn, job_id, now)
    conn.execute(update(jobs).where(jobs.c.job_id == job_id).values(_NOTHING_DONE))


def seal(conn: Connection, job_id: str, *, chunks_total: int, coverage: float) -> None:
    """The document is chunked to its end: the job's size is final.

    Raises BrokenPartition, and nothing changes, unless the batches written hold exactly the chunks made.
    """
    written = conn.execute(_WRITTEN, {"job": job_id}).one()
    if written.chunks != chunks_total:
        raise BrokenPartition(f"job {job_id}: {chunks_total} chunks made, {written.chunks} in its batches")
    conn.execute(_SEAL, {"job": job_id, "total": written.batches, "covered": coverage})


def record_batch_embedded(conn: Connection, job_id: str, ordinal: int, *, reused: int) -> None:
    """A batch has its vectors (`reused` of its chunks needed none)."""
    if _leave(conn, job_id, ordinal, BatchState.PENDING, BatchState.EMBEDDED):
        conn.execute(_COUNT_EMBEDDED, {"job": job_id, "number": ordinal, "reused": reused})


def record_batch_stored(
    conn: Connection, job_id: str, ordinal: int, *, reused: int, dead: Sequence[DeadLetter], now: float
) -> bool:
    """A batch is in the vector store, but for its `dead` chunks. False if it was recorded before."""
    if not _leave(conn, job_id, ordinal, BatchState.EMBEDDED, BatchState.DONE):
        # Either it is done, or it was stored before the embedding worker could say that it is embedded.
        record_batch_embedded(conn, job_id, ordinal, reused=reused)
        if not _leave(conn, job_id, ordinal, BatchState.EMBEDDED, BatchState.DONE):
            return False
    conn.execute(_COUNT_STORED, {"job": job_id, "number": ordinal, "dead": len(dead)})
    if dead:
        mine = (batches.c.job_id == job_id) & (batches.c.ordinal == ordinal)
        conn.execute(update(batches).where(mine).values(dead=len(dead)))
        dead_letters.add(conn, job_id, dead, now)
    return True


def complete_if_done(conn: Connection, job_id: str, now: float) -> JobStatus | None:
    """Finish the job if it is sealed and every batch is done. One caller ever gets the status.

    A job none of whose chunks could be stored has failed.
    """
    won = conn.execute(_COMPLETE, {"job": job_id, "now": now}).scalar()
    if won is None:
        return None
    events.record(conn, job_id)
    return JobStatus(won)


def finish(conn: Connection, job_id: str, status: JobStatus, *, reason: str, now: float) -> bool:
    """End an unfinished job as failed or cancelled. False if it had ended before."""
    ended = conn.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id, _UNFINISHED)
        .values(status=status, reason=storable(reason), finished_at=now)
    )
    if not ended.rowcount:
        return False
    events.record(conn, job_id)
    return True


def reopen(conn: Connection, job_id: str, now: float) -> None:
    """Make an ended job pending again; batches with dead chunks are to be embedded anew."""
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
    """Drop every trace of a deleted document's jobs."""
    mine = select(jobs.c.job_id).where(jobs.c.document_id == document_id)
    conn.execute(delete(batches).where(batches.c.job_id.in_(mine)))
    dead_letters.drop_of_document(conn, document_id)
    conn.execute(delete(jobs).where(jobs.c.document_id == document_id))


def drop_batches(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Drop the batch rows of retired versions' jobs; the jobs stay as history."""
    mine = select(jobs.c.job_id).where(jobs.c.generation_id.in_(generation_ids))
    conn.execute(delete(batches).where(batches.c.job_id.in_(mine)))


def _leave(conn: Connection, job_id: str, ordinal: int, old: BatchState, new: BatchState) -> bool:
    """Move one batch from `old` to `new`; False if it was not in `old`."""
    moved = conn.execute(_MOVE_BATCH, {"job": job_id, "number": ordinal, "old": old, "new": new})
    return bool(moved.rowcount)


def _job_is_unfinished() -> ColumnElement[bool]:
    return and_(jobs.c.job_id == bindparam("job"), _UNFINISHED)


def _status_with(
    embedded: ColumnElement[int], total: ColumnElement[int], sealed: ColumnElement[bool]
) -> ColumnElement[str]:
    """The earliest stage with work left, of an unfinished job with these counters."""
    return case(
        (not_(sealed), jobs.c.status), (embedded < total, JobStatus.EMBEDDING), else_=JobStatus.STORING
    )


# Statements of the hot path, built once: composing one costs more than running it.

_GET = select(jobs).where(jobs.c.job_id == bindparam("job"))

_UNFINISHED_OF_DOCUMENT = select(jobs).where(jobs.c.document_id == bindparam("document"), _UNFINISHED)

_UNFINISHED_ONE = select(jobs.c.job_id).where(_job_is_unfinished())

_GET_MANY = select(jobs).where(jobs.c.job_id.in_(bindparam("ids", expanding=True)))

_START_CHUNKING = (
    update(jobs)
    .where(_job_is_unfinished())
    .values(
        status=case((jobs.c.status == JobStatus.PENDING, JobStatus.CHUNKING), else_=jobs.c.status),
        started_at=func.coalesce(jobs.c.started_at, bindparam("now", type_=Float)),
    )
)

_ADD_JOB = insert(jobs)

_ADD_BATCH = insert(batches)

_ADD_CHUNKS = (
    update(jobs)
    .where(jobs.c.job_id == bindparam("job"))
    .values(chunks_total=jobs.c.chunks_total + bindparam("more"))
)

_WRITTEN = (
    select(func.count().label("batches"), func.coalesce(func.sum(batches.c.chunks), 0).label("chunks"))
    .select_from(batches)
    .where(batches.c.job_id == bindparam("job"))
)

_CHUNKS_OF_BATCH = (
    select(batches.c.chunks)
    .where(batches.c.job_id == bindparam("job"), batches.c.ordinal == bindparam("number"))
    .scalar_subquery()
)

_MOVE_BATCH = (
    update(batches)
    .where(
        batches.c.job_id == bindparam("job"),
        batches.c.ordinal == bindparam("number"),
        batches.c.state == bindparam("old"),
    )
    .values(state=bindparam("new"))
)

_COUNT_EMBEDDED = (
    update(jobs)
    .where(_job_is_unfinished())
    .values(
        batches_embedded=jobs.c.batches_embedded + 1,
        chunks_embedded=jobs.c.chunks_embedded + _CHUNKS_OF_BATCH,
        chunks_reused=jobs.c.chunks_reused + bindparam("reused"),
        status=_status_with(jobs.c.batches_embedded + 1, jobs.c.batches_total, jobs.c.sealed),
    )
)

_COUNT_STORED = (
    update(jobs)
    .where(_job_is_unfinished())
    .values(
        batches_done=jobs.c.batches_done + 1,
        chunks_stored=jobs.c.chunks_stored + _CHUNKS_OF_BATCH - bindparam("dead"),
        chunks_dead=jobs.c.chunks_dead + bindparam("dead"),
    )
)

_SEAL = (
    update(jobs)
    .where(_job_is_unfinished())
    .values(
        sealed=True,
        batches_total=bindparam("total"),
        coverage=bindparam("covered"),
        status=_status_with(jobs.c.batches_embedded, bindparam("total", type_=Integer), true()),
    )
)

_COMPLETE = (
    update(jobs)
    .where(_job_is_unfinished(), jobs.c.sealed, jobs.c.batches_done == jobs.c.batches_total)
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
    .returning(jobs.c.status)
)


def _job(row: Row[Any]) -> Job:
    values = {column.key: row._mapping[column] for column in jobs.columns}
    values["user_tier"] = UserTier(row.user_tier)
    values["status"] = JobStatus(row.status)
    return Job(**values)
