"""The transactional outbox of completion events. Each event says how one run of a job ended.

The transaction that ends a job writes its event. `assign_positions` numbers the events afterwards, one unit
at a time. So a reader that has read up to a position has read every event before it. Numbers that were drawn
inside concurrent transactions would become visible out of order: a reader that remembers the last number
would miss events that are committed later with a lower one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Text, bindparam, cast, delete, func, insert, select, text, update

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.clock import utc
from embedfleet.queue_schemas import JobEvent, JobInfo, JobStatus
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import documents, events, facts, generations, jobs
from embedfleet.sql.upsert import upsert

# The last position is a fact of its own and not max(position): old events are dropped, but no position may be
# given twice.
_LAST_POSITION = "event_position"
_NUMBERED = events.c.position.is_not(None)


def record(conn: Connection, job_ids: Sequence[str]) -> None:
    """Write the events of jobs whose runs ended in this unit. The primary key allows one for each run.

    Jobs that a switch to another model made have none: what was submitted has a job of its own.
    """
    for ids in key_pages(job_ids):
        conn.execute(_RECORD, {"ids": ids})


@dataclass(frozen=True, slots=True)
class NumberedEnd:
    """The end of a run of a job, whose event has got its position.

    `seconds`: since the job was submitted; None if the job is deleted by now.
    """

    event: JobEvent
    seconds: float | None


def assign_positions(conn: Connection, limit: int) -> list[NumberedEnd]:
    """Give the next positions to at most `limit` events that have none, oldest first.

    Returns these, in any order. If two leaders run this at once, the second waits for the first at the row of
    the last position.
    """
    last = _lock_last_position(conn)
    rows = conn.execute(_NUMBER, {"last": last, "most": limit})
    numbered = [NumberedEnd(_event(row), row.seconds) for row in rows]
    if numbered:
        fact = update(facts).where(facts.c.name == _LAST_POSITION)
        conn.execute(fact.values(value=str(last + len(numbered))))
    return numbered


def any_unnumbered(conn: Connection) -> bool:
    """Whether any event has no position yet."""
    query = select(events.c.event_id).where(events.c.position.is_(None)).limit(1)
    return conn.execute(query).first() is not None


def after(conn: Connection, scope: Scope, position: int, limit: int) -> list[JobEvent]:
    """Return at most `limit` events within the scope above `position`, in the order of their positions."""
    query = select(events).where(events.c.position > position, scope.rows(events.c.tenant))
    return _events(conn.execute(query.order_by(events.c.position).limit(limit)).all())


@dataclass(frozen=True, slots=True)
class Bounds:
    """The position of the oldest event that is kept, if one is, and the last position that was given."""

    oldest: int | None
    last: int

    def have_dropped_after(self, position: int) -> bool:
        """Whether an event above the position was dropped. A position that was never given counts as such."""
        first_kept = self.last + 1 if self.oldest is None else self.oldest
        return position > self.last or position + 1 < first_kept


def bounds(conn: Connection) -> Bounds:
    """Return which positions are kept. Positions are given one by one, so they have no gaps."""
    last = conn.execute(select(facts.c.value).where(facts.c.name == _LAST_POSITION)).scalar()
    oldest = conn.execute(_LOWEST_POSITION).scalar()
    return Bounds(None if oldest is None else int(oldest), int(last or 0))


def of_runs(conn: Connection, runs: Sequence[tuple[str, int]]) -> dict[str, JobEvent | None]:
    """Return the events of these ended runs, by job id. None: it has no position yet.

    A run whose event was dropped is left out.
    """
    found: dict[str, JobEvent | None] = {}
    for some in key_pages([event_id(job_id, run) for job_id, run in runs]):
        for row in conn.execute(_OF_RUNS, {"ids": some}):
            found[row.job_id] = None if row.position is None else _event(row)
    return found


def of_ended_job(info: JobInfo, run: int) -> JobEvent:
    """Return the event of an ended job whose own event was dropped. Its position is 0, as none is kept."""
    assert info.finished_at is not None
    return JobEvent(
        event_id=event_id(info.job_id, run),
        position=0,
        tenant=info.tenant,
        job_id=info.job_id,
        media_id=info.media_id,
        status=info.status,
        reason=info.reason,
        chunks_stored=info.progress.chunks_stored,
        chunks_dead=info.progress.chunks_dead,
        account=info.account,
        created_at=info.finished_at,
    )


def event_id(job_id: str, run: int) -> str:
    """Return the id of the event of a run."""
    return f"{job_id}:{run}"


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """Sums over the events of some positions."""

    by_status: Mapping[JobStatus, int]
    chunks_stored: int


def ended_between(conn: Connection, after: int, up_to: int) -> EndedJobs:
    """Sum up the events above the position `after`, up to and including `up_to`."""
    query = select(
        events.c.status, func.count().label("jobs"), func.sum(events.c.chunks_stored).label("chunks")
    )
    query = query.where(events.c.position > after, events.c.position <= up_to).group_by(events.c.status)
    rows = conn.execute(query).all()
    return EndedJobs({JobStatus(row.status): row.jobs for row in rows}, sum(row.chunks for row in rows))


def last_position(conn: Connection) -> int:
    """Return the highest position of an event that is kept; 0 if there is none.

    Events that get a position later have a higher one.
    """
    return int(conn.execute(_HIGHEST_POSITION).scalar() or 0)


def ended_jobs_after(conn: Connection, scope: Scope, position: int, limit: int) -> list[tuple[int, str]]:
    """Return (position, job id) of at most `limit` events within the scope above `position`, in order."""
    query = select(events.c.position, events.c.job_id).where(
        events.c.position > position, scope.rows(events.c.tenant)
    )
    return [
        (row.position, row.job_id) for row in conn.execute(query.order_by(events.c.position).limit(limit))
    ]


def newest_without_position(conn: Connection, limit: int) -> list[str]:
    """Return the job ids of at most `limit` events of any tenant that have no position yet, newest first."""
    return list(conn.execute(_NEWEST_WITHOUT_POSITION, {"limit": limit}).scalars())


def undelivered(conn: Connection, limit: int) -> list[JobEvent]:
    """Return at most `limit` numbered events that the webhook has not accepted yet, in order."""
    query = select(events).where(_NUMBERED, events.c.delivered_at.is_(None))
    return _events(conn.execute(query.order_by(events.c.position).limit(limit)).all())


def count_undelivered(conn: Connection) -> int:
    """Count the numbered events that the webhook has not accepted yet."""
    query = select(func.count()).where(_NUMBERED, events.c.delivered_at.is_(None))
    return int(conn.execute(query).scalar_one())


def mark_delivered(conn: Connection, event_id: str, now: float) -> None:
    """Record that the webhook accepted the event. The time of the first acceptance stays."""
    mine = (events.c.event_id == event_id) & events.c.delivered_at.is_(None)
    conn.execute(update(events).where(mine).values(delivered_at=now))


def drop_old(conn: Connection, limit: int, *, before: float, delivered_only: bool) -> int:
    """Delete, among the `limit` oldest events, those that were written before `before`. Return how many.

    With `delivered_only`, events that the webhook has not accepted yet are kept.
    """
    oldest = select(events.c.event_id).where(_NUMBERED).order_by(events.c.position).limit(limit)
    old = delete(events).where(events.c.event_id.in_(oldest), events.c.created_at < before)
    if delivered_only:
        old = old.where(events.c.delivered_at.is_not(None))
    return conn.execute(old).rowcount


def forget_names(conn: Connection, document_id: str) -> None:
    """Take out of the events of a deleted document what tells of it: its media id, reasons and account.

    The events stay, as readers count on every position. Call this before the rows of the jobs are dropped.
    """
    query = select(jobs.c.job_id, jobs.c.run).where(jobs.c.document_id == document_id)
    ids = [f"{row.job_id}:{run}" for row in conn.execute(query) for run in range(1, row.run + 1)]
    for some in key_pages(ids):
        conn.execute(_FORGET_NAMES, {"ids": some})


def _lock_last_position(conn: Connection) -> int:
    """Lock the row of the last position until the unit ends, and return that position.

    Later statements of the unit see the commits of the previous holder of the lock: under READ COMMITTED,
    each statement takes a new snapshot.
    """
    first = upsert(conn.dialect.name, facts).values(name=_LAST_POSITION, value="0")
    conn.execute(first.on_conflict_do_nothing())
    query = select(facts.c.value).where(facts.c.name == _LAST_POSITION)
    return int(conn.execute(query.with_for_update()).scalar_one())


_RECORD = insert(events).from_select(
    [
        "event_id",
        "tenant",
        "job_id",
        "run",
        "media_id",
        "status",
        "reason",
        "chunks_stored",
        "chunks_dead",
        "account",
        "created_at",
    ],
    select(
        jobs.c.job_id + ":" + cast(jobs.c.run, Text),
        jobs.c.tenant,
        jobs.c.job_id,
        jobs.c.run,
        func.coalesce(documents.c.media_id, ""),
        jobs.c.status,
        jobs.c.reason,
        jobs.c.chunks_stored,
        jobs.c.chunks_dead,
        generations.c.account,
        jobs.c.finished_at,
    )
    .select_from(
        jobs.outerjoin(documents, documents.c.document_id == jobs.c.document_id).outerjoin(
            generations, generations.c.generation_id == jobs.c.generation_id
        )
    )
    .where(jobs.c.job_id.in_(bindparam("ids", expanding=True)), jobs.c.switch_id.is_(None)),
)

_FORGET_NAMES = (
    update(events)
    .where(events.c.event_id.in_(bindparam("ids", expanding=True)))
    .values(media_id="", reason="document deleted", account=None)
)

_LOWEST_POSITION = select(func.min(events.c.position))

_OF_RUNS = select(events).where(events.c.event_id.in_(bindparam("ids", expanding=True)))

_HIGHEST_POSITION = select(func.max(events.c.position))

_NEWEST_WITHOUT_POSITION = (
    select(events.c.job_id)
    .where(events.c.position.is_(None))
    .order_by(events.c.created_at.desc())
    .limit(bindparam("limit"))
)

_NUMBER = text(
    "UPDATE events SET position = :last + waiting.place FROM ("
    "SELECT event_id, ROW_NUMBER() OVER (ORDER BY created_at, event_id) AS place FROM ("
    "SELECT event_id, created_at FROM events WHERE position IS NULL ORDER BY created_at, event_id LIMIT :most"
    ") AS oldest) AS waiting WHERE events.event_id = waiting.event_id "
    "RETURNING events.event_id, events.position, events.tenant_id AS tenant, events.job_id, events.media_id, "
    "events.status, events.reason, events.chunks_stored, events.chunks_dead, events.account, "
    "events.created_at, "
    "events.created_at - (SELECT jobs.created_at FROM jobs WHERE jobs.job_id = events.job_id) AS seconds"
)


def _events(rows: Sequence[Row[Any]]) -> list[JobEvent]:
    return [_event(row) for row in rows]


def _event(row: Row[Any]) -> JobEvent:
    return JobEvent(
        event_id=row.event_id,
        position=row.position,
        tenant=row.tenant,
        job_id=row.job_id,
        media_id=row.media_id,
        status=JobStatus(row.status),
        reason=row.reason,
        chunks_stored=row.chunks_stored,
        chunks_dead=row.chunks_dead,
        account=NOTHING_SAID if row.account is None else Account.of_json(row.account),
        created_at=utc(row.created_at),
    )
