"""Waiting for many jobs: each is told once, as soon as it has ended, at a cost by what ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection

from embedfleet.clock import ManualClock
from embedfleet.errors import InvalidRequest, UnknownJob
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.records import events, fleet, job_completion, jobs
from embedfleet.records.fleet import PoolReport
from embedfleet.records.jobs import NewJob
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.tracking import job_ends
from support.hangs import HANG_SECONDS
from support.statements import statements
from support.system import TENANT, Configure

NOW = 1_700_000_000.0
MANY = job_ends._FEW + 30


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def manager(configure: Configure, database: Database) -> EmbeddingJobManager:
    return EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database)


def names_of(count: int) -> list[str]:
    return [f"job_{number:05}" for number in range(count)]


async def begin(database: Database, names: Sequence[str], *, tenant: str = TENANT) -> None:
    def write(conn: Connection) -> None:
        for name in names:
            job = NewJob(
                job_id=name,
                tenant=tenant,
                document_id=name,
                generation_id=1,
                user_tier=UserTier.FREE,
                priority=50,
                created_at=NOW,
            )
            jobs.create(conn, [job])

    await database.write(write)


async def end(database: Database, names: Sequence[str], *, reason: str = "cancelled") -> None:
    def write(conn: Connection) -> None:
        for name in names:
            job_completion.finish(conn, [name], JobStatus.CANCELLED, reason=reason, now=NOW)

    await database.write(write)


async def number_events(database: Database) -> None:
    """What the leader does."""
    await database.write(lambda conn: events.assign_positions(conn, 100_000))


async def test_each_job_is_told_once_as_soon_as_it_has_ended(
    database: Database, manager: EmbeddingJobManager
) -> None:
    names = names_of(MANY)
    await begin(database, names)
    await end(database, names[:2])
    told: list[str] = []
    async with asyncio.timeout(HANG_SECONDS):
        ended = manager.as_completed([*names, *names])
        told += [(await anext(ended)).job_id, (await anext(ended)).job_id]
        for step, name in enumerate(names[2:]):
            await end(database, [name])
            if step % 3 == 0:
                await number_events(database)
            told.append((await anext(ended)).job_id)
        with pytest.raises(StopAsyncIteration):
            await anext(ended)
    assert sorted(told[:2]) == names[:2]
    assert told[2:] == names[2:]


async def test_wait_many_answers_in_the_given_order(database: Database, manager: EmbeddingJobManager) -> None:
    names = names_of(MANY)[::-1]
    await begin(database, names)
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as group:
        waiting = group.create_task(manager.of(TENANT).wait_many(names))
        for name in sorted(names):
            await end(database, [name])
    assert list(waiting.result()) == names
    assert {info.status for info in waiting.result().values()} == {JobStatus.CANCELLED}


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("count", [3, MANY])
async def test_a_job_that_runs_again_has_not_ended(
    database: Database, manager: EmbeddingJobManager, count: int, numbered: bool
) -> None:
    """The event that a look finds is of the run before."""
    again, first, *others = names_of(count)
    await begin(database, [again, first, *others])
    await end(database, [again, first], reason="the first run")
    await database.write(lambda conn: job_completion.reopen(conn, again, NOW))
    async with asyncio.timeout(HANG_SECONDS):
        ended = manager.as_completed([again, first, *others])
        assert (await anext(ended)).job_id == first  # the first look is over
        if numbered:
            await number_events(database)
        await end(database, others)
        assert sorted([(await anext(ended)).job_id for _ in others]) == others
        await end(database, [again], reason="the second run")
        assert (await anext(ended)).reason == "the second run"


async def test_ends_that_no_leader_numbers_are_found(
    database: Database, manager: EmbeddingJobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All end at once, more than a look reads without a position."""
    monkeypatch.setattr(job_ends, "_LOOK_AT_ALL_SECONDS", 0.0)
    names = names_of(3 * job_ends._UNNUMBERED_PER_LOOK)
    await begin(database, names)
    await end(database, names[:1])
    async with asyncio.timeout(HANG_SECONDS):
        ended = manager.as_completed(names)
        assert (await anext(ended)).job_id == names[0]  # the first look is over
        await end(database, names[1:])
        assert sorted([info.job_id async for info in ended]) == names[1:]


async def test_a_look_does_not_ask_for_every_open_job(
    database: Database, manager: EmbeddingJobManager
) -> None:
    names = names_of(1_000)
    await begin(database, names)
    async with asyncio.timeout(HANG_SECONDS):
        ended = manager.of(TENANT).as_completed(names)
        await end(database, names[:1])
        await anext(ended)  # the first look is over
        with statements() as executed:
            for name in names[1:6]:
                await end(database, [name])
                assert (await anext(ended)).job_id == name
    assert max(statement.parameters for statement in executed) < 30


async def test_an_unknown_job_is_refused_at_once(database: Database, manager: EmbeddingJobManager) -> None:
    await begin(database, ["mine"])
    await begin(database, ["another's"], tenant="another")
    for unknown in ("never", "another's"):
        with pytest.raises(UnknownJob, match=unknown):
            await manager.of(TENANT).wait_many(["mine", unknown], timeout_seconds=HANG_SECONDS)
        with pytest.raises(UnknownJob, match=unknown):
            await anext(manager.of(TENANT).as_completed(["mine", unknown]))


async def test_the_wait_ends_at_its_time_limit_and_the_jobs_go_on(
    database: Database, manager: EmbeddingJobManager
) -> None:
    await begin(database, ["a"])
    with pytest.raises(TimeoutError):
        await manager.wait_many(["a"], timeout_seconds=0.01)
    assert (await manager.get_job_status("a")).status is JobStatus.PENDING


@pytest.mark.parametrize("count", [3, MANY])
async def test_a_job_that_is_dropped_with_its_document_is_left_out(
    database: Database, manager: EmbeddingJobManager, count: int
) -> None:
    names = names_of(count)
    await begin(database, names)
    await end(database, names[:1])
    async with asyncio.timeout(HANG_SECONDS):
        ended = manager.as_completed(names)
        assert (await anext(ended)).job_id == names[0]
        await end(database, names[1:])
        await database.write(lambda conn: jobs.drop_of_document(conn, names[1]))
        assert [info.job_id async for info in ended] == names[2:]


async def test_nothing_to_wait_for_ends_at_once(manager: EmbeddingJobManager) -> None:
    assert await manager.wait_many([]) == {}


async def test_totals_are_sums_over_the_jobs_submitted_since(
    database: Database, manager: EmbeddingJobManager
) -> None:
    tenant = manager.of(TENANT)
    old = await manager.create_job(media_id="old", user_id=TENANT, content="of before")
    await manager.cancel_job(old, TENANT)
    since = datetime.now(UTC)
    await manager.create_job(media_id="another's", user_id="another", content="not counted")
    one = await manager.create_job(media_id="1", user_id=TENANT, content="x" * 10)
    two = await manager.create_job(media_id="2", user_id=TENANT, content="y" * 100)
    await manager.create_job(media_id="3", user_id=TENANT, content="z" * 1_000)

    def move(conn: Connection) -> None:
        for job_id, dead in ((one, 0), (two, 1)):
            row = tables.jobs.update().where(tables.jobs.c.job_id == job_id)
            conn.execute(row.values(sealed=True, chunks_total=4, chunks_stored=3, chunks_dead=dead))

    await database.write(move)
    await manager.cancel_job(one, TENANT)
    found = await tenant.totals(since=since)
    assert (found.jobs, found.ended) == (3, 1)
    assert (found.chunks_stored, found.chunks_dead) == (6, 1)
    assert (found.sealed_chunks, found.sealed_chars) == (8, 110)
    assert (found.unsealed_chunks, found.unsealed_chars) == (0, 1_000)


async def test_many_sources_are_found_in_one_read(manager: EmbeddingJobManager) -> None:
    tenant = manager.of(TENANT)
    made = {
        name: await manager.create_job(
            media_id=name, user_id=TENANT, content=name, source_hash=f"hash {name}"
        )
        for name in ("a", "b", "c")
    }
    await tenant.delete_document(media_id="c")
    wanted = [("c", "hash c"), ("b", "hash b"), ("a", "another"), ("never", "x"), ("a", "hash a")]
    found = await tenant.find_jobs(wanted)
    assert [job and job.job_id for job in found] == [None, made["b"], None, None, made["a"]]
    assert await tenant.find_job(media_id="b", source_hash="hash b") == found[1]


async def test_many_jobs_are_retried_and_the_others_are_named(manager: EmbeddingJobManager) -> None:
    tenant = manager.of(TENANT)
    ids = [await manager.create_job(media_id=name, user_id=TENANT, content=name) for name in "abc"]
    for job_id in ids[:2]:
        await tenant.cancel(job_id)
    again = await tenant.retry_many(ids)
    assert again.jobs == tuple(ids[:2])
    assert [one.job_id for one in again.refused] == ids[2:]
    with pytest.raises(InvalidRequest, match="still pending"):
        await tenant.retry(ids[2])
    with pytest.raises(UnknownJob):
        await tenant.retry_many([*ids, "never"])


async def test_a_wait_that_takes_too_long_says_for_which_job_and_what_it_lacks(
    database: Database, configure: Configure
) -> None:
    clock = ManualClock()
    manager = EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database, clock=clock)
    await begin(database, ["job_a", "job_b", "job_c"])
    await end(database, ["job_b"])

    async def refusal() -> str:
        with pytest.raises(TimeoutError) as refused:
            await manager.of(TENANT).wait_many(["job_b", "job_a", "job_c"], timeout_seconds=0)
        return str(refused.value)

    assert await refusal() == (
        "job job_a is `pending` after 0 s: it waits for an orchestrator: none is running with this database, "
        "so look at the settings or start one (2 jobs have not ended)"
    )
    waiting = [info.waiting_for is not None for info in await manager.list_jobs(TENANT)]
    assert waiting == [True, False, True]

    async def announce(**workers: int) -> None:
        pools = {stage: PoolReport(workers=0, target=most, most=most) for stage, most in workers.items()}
        await database.write(
            lambda conn: fleet.announce(conn, "o1", host="h", pid=1, now=clock.now(), pools=pools)
        )

    await announce(chunking=1, embedding=0, storage=1)
    assert await refusal() == (
        "job job_a is `pending` after 0 s: it waits for a worker for embedding: no host may have one, so "
        "change the size of that pool (2 jobs have not ended)"
    )
    await announce(chunking=1, embedding=1, storage=1)
    assert (await manager.get_job_status("job_a")).waiting_for is None
    assert await refusal() == ("job job_a is `pending` after 0 s: it goes on (2 jobs have not ended)")
    clock.advance(fleet.SILENT_SECONDS + 1)  # it has died since
    assert (await manager.get_job_status("job_a")).waiting_for is not None


async def test_coverage_is_told_only_of_a_job_that_has_completed(
    database: Database, manager: EmbeddingJobManager
) -> None:
    """SQL has the share as soon as all of the text is cut, but nothing of it may be stored by then."""
    done, cancelled = names = names_of(2)
    await begin(database, names)

    def cut(conn: Connection) -> None:
        conn.execute(tables.jobs.update().values(sealed=True, chunks_total=1, coverage=1.0))

    await database.write(cut)
    assert [(await manager.get_job_status(name)).coverage for name in names] == [None, None]
    await end(database, [cancelled])
    await database.write(
        lambda conn: job_completion.finish(conn, [done], JobStatus.COMPLETED, reason="", now=NOW)
    )
    assert [(await manager.get_job_status(name)).coverage for name in names] == [1.0, None]
