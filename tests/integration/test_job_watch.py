"""One watch for all listeners: no event is lost between a replay and the live ones, and looks are shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from embedfleet.clock import SystemClock
from embedfleet.errors import DatabaseUnavailable
from embedfleet.queue_schemas import JobEvent, JobStatus, UserTier
from embedfleet.records import events, job_completion, jobs
from embedfleet.records.jobs import NewJob
from embedfleet.records.scope import EveryTenant, OneTenant
from embedfleet.settings.tenants import TenantsSettings
from embedfleet.sql.database import Database
from embedfleet.tracking import job_watch, recent_events
from embedfleet.tracking.job_watch import JobHeard, JobWatch, Listener
from support.hangs import HANG_SECONDS

T = TypeVar("T")
NOW = 1_700_000_000.0
ALICE, BOB = OneTenant("alice"), OneTenant("bob")


class Hooked(Database):
    """A database that counts reads, and does something between the end of a read and its return."""

    reads = 0
    after_read: Callable[[], Awaitable[None]] | None = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        self.reads += 1
        result = await super().read(work)
        if self.after_read is not None:
            hook, self.after_read = self.after_read, None
            await hook()
        return result


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Hooked]:
    database = Hooked(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def watch(database: Hooked) -> JobWatch:
    return JobWatch(database, SystemClock(), TenantsSettings(), stopping=asyncio.Event())


async def end(database: Database, numbers: Sequence[int], *, tenant: str = "alice") -> None:
    """Jobs with these numbers begin and end, and their events get positions, as by the leader."""

    def write(conn: Connection) -> None:
        names = [f"job_{number:05}" for number in numbers]
        new = [NewJob(name, tenant, name, 1, UserTier.FREE, 50, NOW) for name in names]
        jobs.create(conn, new)
        for name in names:
            job_completion.finish(conn, [name], JobStatus.CANCELLED, reason="", now=NOW)
        events.assign_positions(conn, 1_000)

    await database.write(write)


async def heard(listener: Listener, number: int) -> list[JobEvent]:
    """The next so many events."""
    found: list[JobEvent] = []
    async with asyncio.timeout(HANG_SECONDS):
        while len(found) < number:
            some = await listener.hear(timeout_seconds=HANG_SECONDS)
            found += [one for one in some if isinstance(one, JobEvent)]
    return found


async def test_an_event_that_comes_between_the_replay_and_the_live_ones_is_heard_once(
    database: Hooked, watch: JobWatch
) -> None:
    await end(database, range(5))
    async with (
        watch.listen_to_events(ALICE, after=5) as other,
        watch.listen_to_events(ALICE, after=2) as late,
    ):
        await end(database, [5])
        await heard(other, 1)

        async def more_events_that_the_watch_has_seen() -> None:
            await end(database, [6, 7])
            await heard(other, 2)

        # The replay has read all events up to position 6 when two more come, and its answer is on the way.
        database.after_read = more_events_that_the_watch_has_seen
        found = await heard(late, 6)
        await end(database, [8])
        found += await heard(late, 1)
    assert [event.position for event in found] == [3, 4, 5, 6, 7, 8, 9]


async def test_a_listener_that_is_far_behind_reads_what_the_watch_forgot(
    database: Hooked, watch: JobWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_events, "_MOST_KEPT", 3)
    monkeypatch.setattr(job_watch, "_EVENTS_PER_READ", 2)
    async with (
        watch.listen_to_events(EveryTenant(), after=0) as quick,
        watch.listen_to_events(ALICE, after=0) as slow,
        watch.listen_to_events(BOB, after=0) as bobs,
    ):
        for number in range(0, 20, 4):
            await end(database, [number, number + 1])
            await end(database, [number + 2, number + 3], tenant="bob")
            await heard(quick, 4)
        assert [event.job_id for event in await heard(slow, 10)] == [
            f"job_{number:05}" for number in range(20) if number % 4 < 2
        ]
        assert {event.tenant for event in await heard(bobs, 10)} == {"bob"}


async def test_the_looks_are_shared_and_end_with_the_last_listener(database: Hooked, watch: JobWatch) -> None:
    await end(database, [0])
    listeners = [watch.listen_to_events(ALICE, after=1) for _ in range(50)]
    async with asyncio.TaskGroup() as tasks:

        async def follow(number: int) -> None:
            async with listeners[number] as listener:
                assert [event.job_id for event in await heard(listener, 1)] == ["job_00001"]

        for number in range(50):
            tasks.create_task(follow(number))
        while watch.listeners < 50:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        database.reads = 0
        await end(database, [1])
    assert database.reads < 10, "one look is for all listeners"
    assert watch.listeners == 0
    assert "job watch" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_job_is_heard_until_its_end_has_a_position_and_when_it_is_gone(
    database: Hooked, watch: JobWatch
) -> None:
    await database.write(
        lambda conn: jobs.create(conn, [NewJob("job_1", "alice", "d", 1, UserTier.FREE, 50, NOW)])
    )

    async def next_of(listener: Listener) -> JobHeard:
        (one,) = await listener.hear(timeout_seconds=HANG_SECONDS)
        assert isinstance(one, JobHeard)
        return one

    async with watch.listen_to_job(ALICE, "job_1") as listener:
        first = await next_of(listener)
        assert (first.now and first.now.status, first.event) == (JobStatus.PENDING, None)
        await database.write(
            lambda conn: job_completion.finish(conn, ["job_1"], JobStatus.FAILED, reason="no text", now=NOW)
        )
        ended = await next_of(listener)
        assert (ended.now and ended.now.status, ended.event) == (JobStatus.FAILED, None)
        await database.write(lambda conn: events.assign_positions(conn, 10))
        told = await next_of(listener)
        assert told.event is not None
        assert (told.event.position, told.event.reason) == (1, "no text")
        await database.write(
            lambda conn: events.drop_old(conn, 10, before=float("inf"), delivered_only=False)
        )
        lost = await next_of(listener)
        assert lost.event is not None
        assert (lost.event.position, lost.event.event_id) == (0, told.event.event_id)
        await database.write(lambda conn: jobs.drop_of_document(conn, "d"))
        assert (await next_of(listener)).now is None


async def test_listeners_go_on_after_an_absence_of_the_database(database: Hooked, watch: JobWatch) -> None:
    async with watch.listen_to_events(ALICE, after=0) as listener:
        await listener.hear(timeout_seconds=HANG_SECONDS)

        async def away() -> None:
            raise DatabaseUnavailable("a test")

        database.after_read = away
        await end(database, [0])
        assert [event.position for event in await heard(listener, 1)] == [1]


async def test_a_defect_of_the_watch_reaches_its_listeners(database: Hooked, watch: JobWatch) -> None:
    async with watch.listen_to_events(ALICE, after=0) as listener:
        await listener.hear(timeout_seconds=HANG_SECONDS)

        async def fail() -> None:
            raise ZeroDivisionError

        database.after_read = fail
        await end(database, [0])
        with pytest.raises(ZeroDivisionError):
            await heard(listener, 1)
    async with watch.listen_to_events(ALICE, after=0) as listener:
        assert [event.position for event in await heard(listener, 1)] == [1], "the next one begins again"
