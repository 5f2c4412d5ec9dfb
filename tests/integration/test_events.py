"""Completion events: one for every end of a job, in an order that a reader can rely on."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
from loguru import logger
from sqlalchemy import Connection, select

from embedfleet.clock import ManualClock
from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.records import events, job_completion, jobs
from embedfleet.records.jobs import NewJob
from embedfleet.records.scope import EveryTenant
from embedfleet.settings import Settings
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from support.databases import on_both_databases
from support.system import TENANT, Running, paragraphs, running, until

NOW = 1_700_000_000.0


@pytest.fixture
def ends_logged() -> Iterator[list[str]]:
    """The lines of the log on jobs that ended, with their ids; durations are left out."""
    lines: list[str] = []
    sink = logger.add(
        lambda line: lines.append(re.sub(r"[\d.]+ s after", "N s after", str(line).rstrip())),
        level="INFO",
        filter="embedfleet.leader.event_publisher",
        format="{extra[job_id]}: {message}",
    )
    yield lines
    logger.remove(sink)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, synchronous="normal")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


def end_job(conn: Connection, name: str, *, tenant: str = TENANT, now: float = NOW) -> None:
    """A job that begins and ends in this unit."""
    job = NewJob(
        job_id=name,
        tenant=tenant,
        document_id=name,
        generation_id=1,
        user_tier=UserTier.FREE,
        priority=50,
        created_at=now,
    )
    jobs.create(conn, [job])
    job_completion.finish(conn, [name], JobStatus.CANCELLED, reason="cancelled", now=now)


async def numbered(database: Database) -> list[tuple[int, str]]:
    found = await database.read(lambda conn: events.after(conn, EveryTenant(), 0, 10_000))
    return [(event.position, event.job_id) for event in found]


def ends(fleet: Running, status: str) -> float:
    value = fleet.system.metrics.registry.get_sample_value("embedding_jobs_total", {"status": status})
    return value or 0.0


@on_both_databases
async def test_every_end_of_a_job_is_told_logged_and_counted_once(
    settings: Settings, ends_logged: list[str]
) -> None:
    async with running(settings) as fleet:
        first = await fleet.ingest("1", paragraphs("one", 3))
        unchanged = await fleet.ingest("1", paragraphs("one", 3))
        older = await fleet.submit("2", paragraphs("two", 200))
        newer = await fleet.ingest("2", paragraphs("three", 3))
        cancelled = await fleet.submit("4", paragraphs("four", 200))
        await fleet.jobs.of(TENANT).cancel(cancelled)
        await fleet.jobs.of(TENANT).retry(cancelled)
        await fleet.jobs.of(TENANT).delete_document(media_id="4")

        async def all_told() -> bool:
            return len(await numbered(fleet.system.database)) == 6

        await until(all_told, fleet.system.database)
        await fleet.settled()
        told = await fleet.system.database.read(lambda conn: events.after(conn, EveryTenant(), 0, 100))
    assert {event.event_id: (event.media_id, event.status.value, event.reason) for event in told} == {
        f"{first.job_id}:1": ("1", "completed", None),
        f"{unchanged.job_id}:1": ("1", "completed", "unchanged"),
        f"{older}:1": ("2", "cancelled", "superseded"),
        f"{newer.job_id}:1": ("2", "completed", None),
        # The document is deleted, so its events name it no more.
        f"{cancelled}:1": ("", "cancelled", "document deleted"),
        f"{cancelled}:2": ("", "cancelled", "document deleted"),
    }
    assert [event.position for event in told] == [1, 2, 3, 4, 5, 6]
    assert told[0].chunks_stored == first.progress.chunks_stored
    assert (ends(fleet, "completed"), ends(fleet, "cancelled")) == (3, 3)
    after = " N s after it was submitted"
    # The row of the deleted document's job may be gone before either of its ends is logged, which then has no
    # duration.
    ends_logged = [
        re.sub(f"^{cancelled}: job cancelled,", f"{cancelled}: job cancelled{after},", line)
        for line in ends_logged
    ]
    assert sorted(ends_logged) == sorted(
        [
            f"{first.job_id}: job completed{after}, {first.progress.chunks_stored} chunks stored",
            f"{unchanged.job_id}: job completed{after}, {first.progress.chunks_stored} chunks stored",
            f"{older}: job cancelled{after}, 0 chunks stored: superseded",
            f"{newer.job_id}: job completed{after}, {newer.progress.chunks_stored} chunks stored",
            f"{cancelled}: job cancelled{after}, 0 chunks stored: cancelled",
            f"{cancelled}: job cancelled{after}, 0 chunks stored: document deleted",
        ]
    )


async def test_a_unit_that_fails_ends_no_job_and_tells_of_none(database: Database) -> None:
    def end_then_fail(conn: Connection) -> None:
        end_job(conn, "j")
        raise ValueError("later in the same unit")

    with pytest.raises(ValueError, match="later"):
        await database.write(end_then_fail)
    await database.write(lambda conn: events.assign_positions(conn, 10))
    assert await numbered(database) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_reader_misses_no_event_whose_transaction_commits_late(database: Database) -> None:
    ended, commit = threading.Event(), threading.Event()

    def end_and_hold(conn: Connection) -> None:
        end_job(conn, "early")
        ended.set()
        assert commit.wait(30)

    early = asyncio.create_task(database.write(end_and_hold))
    assert await asyncio.to_thread(ended.wait, 30)
    await database.write(partial(end_job, name="late", now=NOW + 1))
    await database.write(lambda conn: events.assign_positions(conn, 10))
    seen = await numbered(database)
    commit.set()
    await early
    await database.write(lambda conn: events.assign_positions(conn, 10))
    beyond = await database.read(lambda conn: events.after(conn, EveryTenant(), seen[-1][0], 10))
    assert seen + [(event.position, event.job_id) for event in beyond] == [(1, "late"), (2, "early")]


async def test_two_leaders_at_once_number_every_event_once_and_skip_no_position(
    database_url: str, database: Database
) -> None:
    names = [f"job{n}" for n in range(120)]
    given: Counter[int] = Counter()
    done = asyncio.Event()

    async def lead(through: Database) -> None:
        while not done.is_set():
            given.update(
                e.event.position for e in await through.write(lambda conn: events.assign_positions(conn, 7))
            )

    async def all_numbered() -> bool:
        return not await database.read(events.any_unnumbered)

    async with AsyncExitStack() as stack:
        leaders = [await stack.enter_async_context(opened(database_url)) for _ in range(2)]
        async with asyncio.TaskGroup() as tasks:
            for leader in leaders:
                tasks.create_task(lead(leader))
            async with asyncio.TaskGroup() as writers:
                for name in names:
                    writers.create_task(database.write(partial(end_job, name=name)))
            await until(all_numbered, database)
            done.set()
    assert given == Counter(range(1, 121))
    found = await numbered(database)
    assert [position for position, _ in found] == list(range(1, 121))
    assert sorted(name for _, name in found) == sorted(names)


async def test_a_position_is_not_given_again_after_its_event_was_dropped(database: Database) -> None:
    await database.write(partial(end_job, name="old"))
    await database.write(lambda conn: events.assign_positions(conn, 10))
    dropped = await database.write(
        lambda conn: events.drop_old(conn, 10, before=NOW + 1, delivered_only=False)
    )
    await database.write(partial(end_job, name="new"))
    await database.write(lambda conn: events.assign_positions(conn, 10))
    assert dropped == 1
    assert await numbered(database) == [(2, "new")]


async def test_what_has_no_position_or_is_yet_to_be_delivered_is_not_dropped(
    database: Database, clock: ManualClock
) -> None:
    for name in ("delivered", "undelivered"):
        await database.write(partial(end_job, name=name, now=clock.now()))
        await database.write(lambda conn: events.assign_positions(conn, 10))
    await database.write(lambda conn: events.mark_delivered(conn, "delivered:1", clock.now()))
    await database.write(partial(end_job, name="unnumbered", now=clock.now()))
    clock.advance(1)
    await database.write(lambda conn: events.drop_old(conn, 10, before=clock.now(), delivered_only=True))
    left = await database.read(lambda conn: conn.execute(select(tables.events.c.job_id)).scalars().all())
    assert sorted(left) == ["undelivered", "unnumbered"]
