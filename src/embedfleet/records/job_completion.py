"""How a job ends, and begins again. Each run ends exactly once, even if tasks are repeated.

Every transition is an UPDATE whose WHERE names the state that it leaves. So a redelivered task, a stale
worker or two concurrent last batches change nothing twice. The final UPDATE of a run succeeds in one unit
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    Float,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    not_,
    or_,
    select,
    update,
)

from embedfleet.queue_schemas import JobStatus
from embedfleet.records import dead_letters, events
from embedfleet.records.jobs import DONE, SUBMITTED, UNFINISHED, lock_rows
from embedfleet.records.model_switches import HOLDING
from embedfleet.sql.model_tables import model_switches
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.sql_text import storable
from embedfleet.sql.states import BatchState
from embedfleet.sql.tables import batches, jobs


class BrokenPartition(Exception):
    """The batches of a job do not hold exactly its document's chunks. The document must be chunked again."""


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
    finishes it. A job without any stored chunk has failed, if it has dead chunks. While a switch to another
    model is under way, a job is left as it is while it waits for another one of its document (`released`).
    """
    finished: dict[str, JobStatus] = {}
    for ids in key_pages(job_ids):
        for row in conn.execute(_COMPLETE, {"ids": ids, "now": now}):
            finished[row.job_id] = JobStatus(row.status)
    events.record(conn, list(finished))
    return finished


def released(conn: Connection, now: float, most: int) -> list[str]:
    """Return up to `most` jobs, of tenants with a switch under way, that are done and wait no longer.

    The other job has failed, was cancelled, or takes too long, so that no unit came to complete them.
    """
    return list(conn.execute(_RELEASED, {"now": now, "most": most}).scalars())


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


def earliest_stage_left(embedded: str, total: str) -> str:
    """Return SQL for the status of a sealed, unfinished job: its earliest stage that has work left.

    `embedded` and `total` are SQL for its number of embedded batches and of all batches.
    """
    return f"CASE WHEN {embedded} < {total} THEN '{JobStatus.EMBEDDING}' ELSE '{JobStatus.STORING}' END"


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

# A twin that takes longer does not hold up what is submitted. The switch then lacks the document.
_LONGEST_WAIT_FOR_TWIN_SECONDS = 300.0

_TWIN = jobs.alias("twin")
_ORIGINAL = jobs.alias("original")
_WAITED_SINCE = bindparam("now", type_=Float) - _LONGEST_WAIT_FOR_TWIN_SECONDS

_SWITCH_IS_RUNNING = exists().where(model_switches.c.running == 1)

# From its gate on, a switch shows a version in both spaces in one unit: whichever job is done first waits.
_WAITS_FOR_TWIN = and_(
    SUBMITTED,
    exists().where(
        _TWIN.c.document_id == jobs.c.document_id,
        _TWIN.c.finished_at.is_(None),
        not_(and_(_TWIN.c.sealed, _TWIN.c.batches_done == _TWIN.c.batches_total)),
        # A job that is tried again has begun long ago, and its twin is new.
        or_(
            jobs.c.started_at > _WAITED_SINCE,
            _TWIN.c.started_at > _WAITED_SINCE,
            _TWIN.c.created_at > _WAITED_SINCE,
        ),
        model_switches.c.switch_id == _TWIN.c.switch_id,
        model_switches.c.phase.in_(HOLDING),
    ),
)

# A twin is never shown before its original: that may fail, or be cancelled.
_WAITS_FOR_ORIGINAL = and_(
    jobs.c.switch_id.is_not(None),
    exists().where(
        _ORIGINAL.c.document_id == jobs.c.document_id,
        _ORIGINAL.c.finished_at.is_(None),
        _ORIGINAL.c.switch_id.is_(None),
    ),
)

# That a switch runs is asked first: without one, the jobs of the document are not looked at.
_WAITS = and_(_SWITCH_IS_RUNNING, or_(_WAITS_FOR_TWIN, _WAITS_FOR_ORIGINAL))

_RELEASED = (
    select(jobs.c.job_id)
    .where(
        UNFINISHED,
        jobs.c.tenant.in_(select(model_switches.c.tenant).where(model_switches.c.running == 1)),
        DONE,
        ~_WAITS,
    )
    .order_by(jobs.c.job_id)
    .limit(bindparam("most"))
)

_COMPLETE = (
    update(jobs)
    .where(
        jobs.c.job_id.in_(bindparam("ids", expanding=True)),
        UNFINISHED,
        DONE,
        ~_WAITS,
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
