"""Watches jobs and events for any number of listeners, with one look at the database for all of them.

A look follows each write, and looks begin a tenth of a second apart. It reads the new events, the rows of the
jobs that a listener listens to, and now and then the workload, for ETAs.

No event is lost between the replay and what follows it, because a listener has no queue. It has a position,
and takes the events above it: from the newest ones that the watch keeps, or from the database if it is
further behind. So a slow listener costs no memory, and one that resumes cannot miss what came in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from sqlalchemy import Connection

from embedfleet.clock import Clock, utc
from embedfleet.errors import EmbedfleetError, Transient
from embedfleet.eta import CHARS_PER_TOKEN
from embedfleet.explanation import stage_of
from embedfleet.progress import JobNow, WorkNow
from embedfleet.queue_schemas import JobEvent
from embedfleet.records import backlog, events, jobs
from embedfleet.records.backlog import Ahead, Work
from embedfleet.records.job_info import job_infos, progress_of
from embedfleet.records.jobs import Job
from embedfleet.records.scope import EveryTenant, OneTenant, Scope
from embedfleet.retry import BackOff
from embedfleet.settings.tenants import TenantsSettings
from embedfleet.sql.database import Database
from embedfleet.tracking.recent_events import RecentEvents
from embedfleet.tracking.workload import Workload, read_workload
from embedfleet.trouble import Trouble
from embedfleet.waiting import cancel_and_wait, first_of, wait_briefly

# One look answers a burst of commits. It is also the shortest time between two reports of a job's progress.
_LOOK_SECONDS = 0.1
# A write of another process may go unnoticed, so a look follows after this time in any case.
_LONGEST_PAUSE_SECONDS = 1.0
# The shortest time between two reads of the workload. It also takes at most a twentieth of the time.
_WORKLOAD_SECONDS = 2.0
_SHARE_OF_TIME = 20
_EVENTS_PER_LOOK = 1_000
_EVENTS_PER_READ = 500
_LONGEST_BACK_OFF_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class JobHeard:
    """A job as a look saw it. `now` is None if the job is gone.

    `event` is that of its end, as soon as the event has a position. An event that is not kept any more comes
    with the position 0.
    """

    now: JobNow | None
    event: JobEvent | None = None


Heard = JobEvent | WorkNow | JobHeard


class JobWatch:
    """Looks for all listeners of a process. It looks only while there are listeners."""

    def __init__(
        self, database: Database, clock: Clock, tenants: TenantsSettings, *, stopping: asyncio.Event
    ) -> None:
        """When `stopping` is set, every listener stops."""
        self._database = database
        self._clock = clock
        self._tenants = tenants
        self._stopping = stopping
        self._listeners: set[Listener] = set()
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._state = _Seen(RecentEvents(0))

    @property
    def _looks(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    @asynccontextmanager
    async def listen_to_events(self, scope: Scope, *, after: int) -> AsyncIterator[Listener]:
        """Yield a listener to the events of the scope above the position, and to the work that is left."""
        async with self._listening(Listener(self, scope, after, None)) as listener:
            yield listener

    @asynccontextmanager
    async def listen_to_job(self, scope: Scope, job_id: str) -> AsyncIterator[Listener]:
        """Yield a listener to one job, which exists within the scope: how far it is, and its end."""
        async with self._listening(Listener(self, scope, 0, job_id)) as listener:
            yield listener

    @asynccontextmanager
    async def _listening(self, listener: Listener) -> AsyncIterator[Listener]:
        if not self._looks:
            start = await self._database.read(events.bounds)
            # Between the read and this line another listener may have begun.
            if not self._looks:
                self._failure = None
                self._state = _Seen(RecentEvents(start.last))
                self._task = asyncio.create_task(self._watch(), name="job watch")
        self._listeners.add(listener)
        self._joined.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                task, self._task = self._task, None
                await cancel_and_wait(task)

    async def _watch(self) -> None:
        """Look until this is cancelled, or until the process stops."""
        try:
            await self._look_on()
        except Exception as exc:  # noqa: BLE001 - a defect, which every listener raises
            self._failure = exc
        finally:
            for listener in self._listeners:
                listener.wake()

    async def _look_on(self) -> None:
        trouble = Trouble(over="jobs are watched again")
        back_off = BackOff(_LOOK_SECONDS, _LONGEST_BACK_OFF_SECONDS, random.Random())
        while not self._stopping.is_set():
            # Both before the look: what happens during the look must bring another one.
            seen = await self._database.writes_noticed()
            self._joined.clear()
            begun = monotonic()
            try:
                full = await self._look()
            except EmbedfleetError as exc:
                trouble.note(exc)
                back_off.add_failure()
                await wait_briefly(self._stopping, back_off.pause_seconds())
                continue
            trouble.clear()
            back_off.reset()
            if not full:
                await self._rest(seen, begun)

    async def _rest(self, seen: int, begun: float) -> None:
        write = self._database.wait_for_write(seen, timeout_seconds=_LONGEST_PAUSE_SECONDS)
        await first_of(write, self._joined.wait(), self._stopping.wait())
        await wait_briefly(self._stopping, max(0.0, begun + _LOOK_SECONDS - monotonic()))

    async def _look(self) -> bool:
        """Read what is new, and wake the listeners that it concerns. Returns whether there may be more."""
        state = self._state
        named = sorted({one.job_id for one in self._listeners if one.job_id is not None})
        begun = monotonic()
        due = begun >= state.workload_due
        found = await self._database.read(
            partial(self._read, after=state.recent.end, job_ids=named, with_workload=due)
        )
        if found.load is not None:
            state.load, state.ahead = found.load, {}
            state.workload_due = monotonic() + max(_WORKLOAD_SECONDS, _SHARE_OF_TIME * (monotonic() - begun))
        state.ahead = {**state.ahead, **found.ahead}
        state.recent.add(found.events)
        state.jobs = self._described(named, found)
        tenants = {event.tenant for event in found.events}
        for listener in self._listeners:
            if listener.concerned(tenants, state, workload_read=due):
                listener.wake()
        return len(found.events) == _EVENTS_PER_LOOK

    def _read(self, conn: Connection, after: int, job_ids: Sequence[str], *, with_workload: bool) -> _Found:
        found = jobs.get_many(conn, job_ids)
        ended = [(job.job_id, job.run) for job in found.values() if job.status.terminal]
        load = read_workload(conn, self._tenants, self._clock.now()) if with_workload else None
        # A listener that has just come has an ETA at once.
        wanted = job_ids if with_workload else [one for one in job_ids if one not in self._state.jobs]
        ahead = backlog.ahead_of(conn, wanted) if wanted else {}
        new = events.after(conn, EveryTenant(), after, _EVENTS_PER_LOOK)
        ends = events.of_runs(conn, ended)
        lost = [found[job_id] for job_id, _ in ended if job_id not in ends]
        told = {info.job_id: info for info in job_infos(conn, lost)}
        ends |= {job.job_id: events.of_ended_job(told[job.job_id], job.run) for job in lost}
        return _Found(new, found, ends, load, ahead)

    def _described(self, named: Sequence[str], found: _Found) -> dict[str, JobHeard]:
        state = self._state
        described: dict[str, JobHeard] = {}
        for job_id in named:
            job = found.jobs.get(job_id)
            if job is None:
                described[job_id] = JobHeard(None)
                continue
            now = self._job_now(job)
            before = state.jobs.get(job_id)
            # What did not change keeps its time, so that it does not look new.
            if before is not None and before.now is not None:
                same = now.model_copy(update={"at": before.now.at})
                now = before.now if same == before.now else now
            described[job_id] = JobHeard(now, found.ends.get(job_id))
        return described

    def _job_now(self, job: Job) -> JobNow:
        state = self._state
        eta = None
        if not job.status.terminal and state.load is not None and job.job_id in state.ahead:
            eta = state.load.seconds_until_done(job.tenant, state.ahead[job.job_id])
        return JobNow(
            job_id=job.job_id,
            status=job.status,
            stage=stage_of(job.status),
            progress=progress_of(job),
            eta_seconds=eta,
            at=utc(self._clock.now()),
        )

    # --- for listeners ---

    def has_stopped(self) -> bool:
        """Whether the process stops. Raises what ended the looks, if that was a defect."""
        if self._failure is not None:
            raise self._failure
        return self._stopping.is_set()

    async def events_after(self, scope: Scope, position: int) -> tuple[list[JobEvent], int]:
        """Return some events within the scope above the position, and the position that was reached."""
        recent = self._state.recent
        kept = recent.after(scope, position, _EVENTS_PER_READ)
        if kept is not None:
            return kept
        # All events up to here are in the database, so the read cannot miss one of them.
        end = recent.end
        found = await self._database.read(lambda conn: events.after(conn, scope, position, _EVENTS_PER_READ))
        reached = found[-1].position if found else end
        return found, reached if len(found) == _EVENTS_PER_READ else max(end, reached)

    async def end_of(self, job_id: str) -> JobEvent | None:
        """Return the event of the job's end.

        None: it has not ended, or the event has no position yet, or is not kept any more.
        """

        def look(conn: Connection) -> JobEvent | None:
            job = jobs.get(conn, job_id)
            if job is None or not job.status.terminal:
                return None
            return events.of_runs(conn, [(job_id, job.run)]).get(job_id)

        return await self._database.read(look)

    def job_heard(self, job_id: str) -> JobHeard | None:
        """Return what the last look saw of the job; None if no look was for it yet."""
        return self._state.jobs.get(job_id)

    def work_now(self, scope: Scope) -> WorkNow | None:
        """Return what is left of the work within the scope; None if it was not read yet."""
        load = self._state.load
        if load is None:
            return None
        if isinstance(scope, OneTenant):
            work = load.work.get(scope.tenant, Work())
            seconds = load.seconds_until_idle(scope.tenant)
        else:
            work = sum(load.work.values(), Work())
            seconds = load.seconds_until_all_idle()
        return WorkNow(
            unfinished=dict(work.by_status),
            tokens_left=round(work.chars / CHARS_PER_TOKEN),
            eta_seconds=seconds if work.jobs else None,
            at=utc(self._clock.now()),
        )


@dataclass(slots=True)
class _Seen:
    """What the looks have seen since the first listener came."""

    recent: RecentEvents
    jobs: Mapping[str, JobHeard] = field(default_factory=dict)
    load: Workload | None = None
    ahead: Mapping[str, Ahead] = field(default_factory=dict)
    workload_due: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Found:
    """What one look read. `ends`: the events of ended jobs, None if one has no position yet."""

    events: list[JobEvent]
    jobs: Mapping[str, Job]
    ends: Mapping[str, JobEvent | None]
    load: Workload | None
    ahead: Mapping[str, Ahead]


class Listener:
    """What one stream listens with. Only one task uses it."""

    def __init__(self, watch: JobWatch, scope: Scope, position: int, job_id: str | None) -> None:
        self.job_id = job_id
        self._watch = watch
        self._scope = scope
        self._position = position
        self._told: JobHeard | WorkNow | None = None
        self._woken = asyncio.Event()
        self._woken.set()  # the first look of the listener itself: a replay needs no write

    def last_of_job(self) -> JobHeard | None:
        """Return what was heard last of the job that this listens to."""
        return self._told if isinstance(self._told, JobHeard) else None

    @property
    def stopped(self) -> bool:
        """Whether the process stops: nothing more is heard."""
        return self._watch.has_stopped()

    def wake(self) -> None:
        """Let the listener look again."""
        self._woken.set()

    def concerned(self, tenants: set[str], state: _Seen, *, workload_read: bool) -> bool:
        """Whether the last look saw something for this listener."""
        if self.job_id is not None:
            return state.jobs.get(self.job_id) != self._told
        return workload_read or any(map(self._scope.holds, tenants))

    async def hear(self, *, timeout_seconds: float) -> list[Heard]:
        """Return what is new, in order. Empty: nothing within the time, or the process stops.

        Of the events none is left out. Of a job's progress, and of what is left to do, it is the newest.
        While the database is away, nothing is heard.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while not self.stopped:
                    await self._woken.wait()
                    heard = await self._looked()
                    if heard:
                        return heard
        return []

    async def _looked(self) -> list[Heard]:
        """Look once. What a look does not see because it is cancelled or fails, the next one sees."""
        self._woken.clear()
        try:
            return await self._take()
        except Transient:
            await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
            self._woken.set()
            return []
        except BaseException:
            self._woken.set()
            raise

    async def _take(self) -> list[Heard]:
        if self.job_id is not None:
            found = self._watch.job_heard(self.job_id)
            if found is None or found == self._told:
                return []
            self._told = found
            return [found]
        before = self._position
        new, self._position = await self._watch.events_after(self._scope, before)
        if new and self._position > before:
            self._woken.set()  # there may be more
        work = self._watch.work_now(self._scope)
        if work is None or _same_work(work, self._told):
            return list(new)
        self._told = work
        return [*new, work]


def _same_work(work: WorkNow, told: JobHeard | WorkNow | None) -> bool:
    return isinstance(told, WorkNow) and work.model_copy(update={"at": told.at}) == told
