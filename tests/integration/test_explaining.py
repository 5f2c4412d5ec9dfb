"""Why a document is not searchable yet, and the wait until it is: as read from a database and its queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, NotYetVisible, UnknownDocument, UnknownJob
from embedfleet.explanation import Cause, JobExplanation, NextAction
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.positions import Position
from embedfleet.queue_schemas import JobRequest, JobStatus
from embedfleet.records import fleet, job_completion
from embedfleet.records.fleet import PoolReport
from embedfleet.records.scope import EveryTenant, OneTenant
from embedfleet.sql.database import Database
from embedfleet.tracking.explaining import Explainer
from support.hangs import HANG_SECONDS
from support.system import TENANT, Configure
from support.system import running as running_system

POOL = PoolReport(workers=1, target=1, most=1, rate=100.0)
POOLS = dict.fromkeys(("chunking", "embedding", "storage"), POOL)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def manager(configure: Configure, database: Database) -> EmbeddingJobManager:
    return EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database)


@pytest.fixture
def explainer(configure: Configure, database: Database) -> Explainer:
    return Explainer(database, SystemClock(), configure(), None)


async def submit(manager: EmbeddingJobManager, name: str, *, tenant: str = TENANT, priority: int = 50) -> str:
    return await manager.create_job(
        media_id=name, user_id=tenant, content="word " * 80, priority=priority, user_tier="premium"
    )


async def announce(database: Database) -> None:
    now = SystemClock().now()
    await database.write(partial(fleet.announce, orchestrator_id="o", host="h", pid=1, now=now, pools=POOLS))


async def test_what_goes_first_is_of_the_same_tenant_with_a_higher_priority_or_earlier(
    database: Database, manager: EmbeddingJobManager, explainer: Explainer
) -> None:
    scope = OneTenant(TENANT)
    wanted = {"a": 50, "b": 50, "c": 90}
    mine = [await submit(manager, name, priority=priority) for name, priority in wanted.items()]
    other = await submit(manager, "x", tenant="bob")

    async def ahead(job_id: str) -> int:
        return (await explainer.of_job(EveryTenant(), job_id)).jobs_ahead

    assert [await ahead(job_id) for job_id in (*mine, other)] == [1, 2, 0, 0]
    found = await explainer.of_job(scope, mine[1])
    assert (found.cause, found.tokens_ahead, found.tokens_left) == (Cause.NO_ORCHESTRATOR, 200, 100)
    assert (found.other_tenants, found.share) == (1, 0.5)
    await announce(database)
    found = await explainer.of_job(scope, mine[1])
    assert (found.cause, found.next_action) == (Cause.OFFER_PENDING, NextAction.WAIT)
    # Its own 300 tokens at half of 100 a second would take 6 s; all 400 tokens take 4 s.
    assert found.eta_seconds == 4.0
    assert await explainer.of_document(TENANT, "b") == found
    with pytest.raises(UnknownJob):
        await explainer.of_job(scope, other)
    with pytest.raises(UnknownDocument):
        await explainer.of_document(TENANT, "x")


async def test_a_search_waits_for_a_position_of_its_tenant_and_names_what_it_will_not_find(
    database: Database, manager: EmbeddingJobManager
) -> None:
    names = ["a", "b", "c"]
    requests = [JobRequest(media_id=name, user_id=TENANT, content=f"text {name}") for name in names]
    mine = await manager.create_jobs(requests)
    position = str(Position.of_jobs(mine))
    alice = manager.of(TENANT)
    with pytest.raises(NotYetVisible, match=f"job {min(mine)} is `pending`.*no orchestrator") as caught:
        await alice.wait_until_visible(position, timeout_seconds=0)
    assert caught.value.retry_after_seconds > 0
    with pytest.raises(UnknownJob):
        await manager.of("bob").wait_until_visible(position, timeout_seconds=0)
    with pytest.raises(InvalidRequest):
        await alice.wait_until_visible("42", timeout_seconds=0)

    waiting = asyncio.create_task(alice.wait_until_visible(position, timeout_seconds=HANG_SECONDS))
    ends = (JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED)
    for job_id, status in zip(mine, ends, strict=True):
        assert not waiting.done()
        await database.write(
            partial(job_completion.finish, job_ids=[job_id], status=status, reason="no text", now=1.0)
        )
    (missing,) = await asyncio.wait_for(waiting, HANG_SECONDS)
    assert (missing.job_id, missing.status, missing.reason) == (mine[2], JobStatus.FAILED, "no text")
    assert await alice.wait_until_visible(mine[0], timeout_seconds=0) == []


async def test_a_document_is_explained_all_the_way_and_found_after_its_position(
    configure: Configure,
) -> None:
    async with running_system(configure()) as running:
        system = running.system
        explainer = Explainer(system.database, SystemClock(), system.settings, system.broker)
        job_id = await running.submit("a", "the quick brown fox")
        seen: list[JobExplanation] = []
        async with asyncio.timeout(HANG_SECONDS):
            while not seen or not seen[-1].searchable:
                seen.append(await explainer.of_job(OneTenant(TENANT), job_id))
        assert await running.jobs.of(TENANT).wait_until_visible(job_id, timeout_seconds=HANG_SECONDS) == []
        assert seen[-1].cause is Cause.SEARCHABLE
        assert {(one.model, one.route) for one in seen} == {("stub", "default model")}
        assert {one.stage for one in seen} > {None}
