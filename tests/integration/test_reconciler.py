"""What the broker loses while SQL still wants it is found and offered again; what it has is left alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.clock import ManualClock
from embedfleet.leader.reconciler import Reconciler
from embedfleet.queue.broker import Broker, Lease, Task, TenantShare
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue.redis_scripts import StageScripts
from embedfleet.queue_schemas import JobRequest, JobStatus, Stage, UserTier
from embedfleet.records import batches, document_cleanup, job_completion, jobs, outbox, tenants
from embedfleet.records.batches import Batch
from embedfleet.records.fleet import broker_epoch, set_broker_epoch
from embedfleet.records.job_completion import JobEnd
from embedfleet.records.model_switches import BACKFILL_FLOW
from embedfleet.settings import Settings
from embedfleet.sql import document_lock
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.redis_server import RedisServer, redis_settings
from support.system import ONE_EACH, TENANT, Configure, Running, paragraphs, running, take_ledger, until

PIPELINE = [Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE]
RECONCILE_SECONDS = 5.0
HOUR_SECONDS = 3_600.0


def without_workers(configure: Configure, *stages: Stage, reconcile_seconds: float) -> Settings:
    # Short leases: a lease that a cut file brings back to life has no holder. On a slow machine others expire
    # as well: however often that
    # happens, no work is given up.
    pools: dict[str, Any] = {stage.value: {"lease_seconds": 1, "max_attempts": 1000} for stage in Stage}
    for stage in stages:
        pools[stage.value]["workers"] = 0
    return configure(
        worker_pools=pools,
        chunking={"batch_chunks": 4},
        auto_scaling={"enabled": False},
        orchestrator={"reconcile_seconds": reconcile_seconds},
    )


@asynccontextmanager
async def over_redis(server: RedisServer, settings: Settings) -> AsyncIterator[Running]:
    broker = await RedisBroker.open(redis_settings(server.url))
    try:
        async with running(settings, broker=broker) as fleet:
            await until(partial(knows_its_broker, fleet), fleet.system.database)
            yield fleet
    finally:
        await broker.close()


async def knows_its_broker(fleet: Running) -> bool:
    """From now on a new epoch is a loss, not the beginning."""
    return await fleet.system.database.read(broker_epoch) is not None


async def take(broker: Broker, stage: Stage, max_tasks: int = 1) -> list[Lease]:
    return await broker.claim(
        stage, worker="test", max_tasks=max_tasks, max_cost=10**9, lease_seconds=10 * HOUR_SECONDS
    )


async def lose_one(broker: Broker, stage: Stage) -> Task:
    """The broker forgets one task; nothing that the task was to do is done."""
    (lease,) = await take(broker, stage)
    assert await broker.ack([lease]) == []
    return lease.task


def reoffered(fleet: Running, reason: str) -> float:
    name = "embedding_reoffered_jobs_total"
    return fleet.system.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0


# --- a whole system over Redis ------------------------------------------------------------------


@on_both_databases
@pytest.mark.parametrize("stage", PIPELINE)
async def test_a_job_that_lost_one_task_completes_once_and_nothing_is_doubled(
    configure: Configure, redis_server: RedisServer, stage: Stage
) -> None:
    settings = without_workers(configure, stage, reconcile_seconds=0.1)
    async with over_redis(redis_server, settings) as fleet:
        job_id = await fleet.submit("1", paragraphs("lost", 12), chunking_config=ONE_EACH)
        waiting = 1 if stage is Stage.CHUNKING else 3
        await fleet.eventually(
            lambda depths: depths[stage].ready == waiting and sum(d.leased for d in depths.values()) == 0
        )
        assert (await lose_one(fleet.system.broker, stage)).job_id == job_id
        fleet.system.orchestrator.resize({stage.value: 1})

        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await fleet.settled()
        assert info.status is JobStatus.COMPLETED
        assert info.progress.chunks_stored == info.progress.chunks_total == 12
        assert reoffered(fleet, "tasks_lost") >= 1
        async for event in fleet.jobs.of_all_tenants().follow_events():
            assert (event.job_id, event.status) == (job_id, JobStatus.COMPLETED)
            break
        assert len(await fleet.jobs.of_all_tenants().events()) == 1
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_redis_that_lost_the_end_of_its_file_is_told_what_it_lost(configure: Configure) -> None:
    settings = without_workers(configure, Stage.EMBEDDING, reconcile_seconds=0.1)
    with RedisServer("--appendonly", "yes", "--appendfsync", "everysec") as server:
        async with over_redis(server, settings) as fleet:
            job_ids = [
                await fleet.submit(str(n), paragraphs(f"cut{n}", 8), chunking_config=ONE_EACH)
                for n in range(4)
            ]
            await fleet.eventually(lambda depths: depths[Stage.EMBEDDING].ready == 8)
            server.kill()
            cut_appendonly_file(server, before_last=b"{embedfleet:embedding}:ready")  # of one task at least
            server.start()
            fleet.system.orchestrator.resize({"embedding": 1})
            for job_id in job_ids:
                info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
                assert info.status is JobStatus.COMPLETED
            await fleet.settled()
            # Others may have ended, with the tasks that were left, before the loss was noticed.
            assert reoffered(fleet, "broker_lost") >= 1
            (await take_ledger(fleet.system)).assert_exact()


def cut_appendonly_file(server: RedisServer, *, before_last: bytes) -> None:
    """Cut off the last command that names this key, and what came after it."""
    (file,) = [*server.folder.glob("appendonlydir/*.incr.aof"), *server.folder.glob("appendonly.aof")]
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(before_last)])


# --- the reconciler alone -----------------------------------------------------------------------


class Idle:
    """A system without workers: the test makes every move itself, by a clock of its own."""

    def __init__(self, system: OwnerSystem) -> None:
        self.system = system
        self.database = system.database
        self.broker = system.broker
        self.clock = ManualClock()

    def reconciler(self) -> Reconciler:
        return Reconciler(
            database=self.database,
            broker=self.broker,
            clock=self.clock,
            tenants=self.system.settings.tenants,
            metrics=self.system.metrics,
            reconcile_seconds=RECONCILE_SECONDS,
        )

    async def offered(self, count: int = 1) -> list[str]:
        """New jobs whose chunking tasks wait in the broker, since an hour ago."""
        requests = [
            JobRequest(media_id=f"m{n}", user_id=TENANT, user_tier=UserTier.ENTERPRISE, content=f"Text {n}.")
            for n in range(count)
        ]
        job_ids = await self.system.jobs.create_jobs(requests)
        while await self.reconciler().offer_jobs():
            pass
        self.clock.advance(HOUR_SECONDS)
        return job_ids

    async def outbox(self) -> set[str]:
        waiting = await self.database.read(lambda conn: outbox.unoffered(conn, 10_000))
        return {job.job_id for job in waiting}

    def meanwhile(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
        """Something happens between the broker's answer and what the reconciler does about it."""
        known_jobs = self.broker.known_jobs

        async def answer(job_ids: Collection[str]) -> set[str]:
            known = await known_jobs(job_ids)
            await act()
            return known

        monkeypatch.setattr(self.broker, "known_jobs", answer)


@pytest.fixture
async def idle(configure: Configure) -> AsyncIterator[Idle]:
    async with open_owner(configure(), purpose="test", broker=MemoryBroker()) as system:
        yield Idle(system)


@on_both_databases
async def test_a_newcomer_is_offered_in_the_next_pass_however_many_jobs_of_another_wait(idle: Idle) -> None:
    passes, most = 3, 500

    async def submit(tenant: str, count: int) -> list[str]:
        return await idle.system.jobs.create_jobs(
            [
                JobRequest(media_id=f"{n}", user_id=tenant, user_tier=UserTier.ENTERPRISE, content="Text.")
                for n in range(count)
            ]
        )

    heap = await submit(TENANT, passes * most)
    (newcomer,) = await submit("newcomer", 1)
    late = await submit("another", 3)
    reconciler = idle.reconciler()
    assert await reconciler.offer_jobs() == most
    assert await idle.outbox() == set(heap[most - 4 :]), "besides the newcomers, the oldest go first"
    assert await idle.broker.known_jobs([newcomer, *late, *heap]) == {newcomer, *late, *heap[: most - 4]}
    assert [await reconciler.offer_jobs() for _ in range(passes)] == [most, most, 4]
    assert await idle.outbox() == set()


async def test_a_new_leader_sets_the_shares_of_all_tenants_though_no_job_waits(
    idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    await idle.offered()
    told: list[Mapping[str, TenantShare]] = []

    async def set_shares(shares: Mapping[str, TenantShare]) -> None:
        told.append(shares)

    monkeypatch.setattr(idle.broker, "set_shares", set_shares)
    reconciler = idle.reconciler()
    await idle.database.write(lambda conn: set_broker_epoch(conn, "another"))
    await reconciler.notice_lost_broker()
    assert told == [{TENANT: TenantShare(weight=8), BACKFILL_FLOW: TenantShare(weight=0.5)}]
    await reconciler.notice_lost_broker()
    assert len(told) == 1, "the epoch is known and so are the shares"


async def test_a_new_weight_of_a_tenant_counts_for_what_is_offered_already(
    idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    await idle.offered()
    told: list[Mapping[str, TenantShare]] = []

    async def set_shares(shares: Mapping[str, TenantShare]) -> None:
        told.append(shares)

    reconciler = idle.reconciler()
    await reconciler.find_lost()
    monkeypatch.setattr(idle.broker, "set_shares", set_shares)
    await idle.database.write(lambda conn: tenants.set_limits(conn, TENANT, {"weight": 2.5}))
    idle.clock.advance(RECONCILE_SECONDS)
    await reconciler.find_lost()
    assert told == [{TENANT: TenantShare(weight=2.5)}]


async def test_a_job_at_work_for_hours_is_never_offered_again(idle: Idle) -> None:
    await idle.offered()
    (lease,) = await take(idle.broker, Stage.CHUNKING)
    reconciler = idle.reconciler()
    for _ in range(10):
        idle.clock.advance(HOUR_SECONDS)
        assert await reconciler.find_lost() == 0
    await idle.broker.retry_later(lease, delay_seconds=HOUR_SECONDS, reason="a service is away")
    idle.clock.advance(HOUR_SECONDS)
    assert await reconciler.find_lost() == 0


async def test_a_job_offered_just_now_is_left_to_the_next_walk(idle: Idle) -> None:
    (job_id,) = await idle.offered()
    await lose_one(idle.broker, Stage.CHUNKING)
    idle.clock.advance(-HOUR_SECONDS)
    reconciler = idle.reconciler()
    assert await reconciler.find_lost() == 0
    idle.clock.advance(RECONCILE_SECONDS)
    assert await reconciler.find_lost() == 1
    assert await idle.outbox() == {job_id}


async def test_a_job_whose_only_task_is_dead_in_the_broker_is_lost_too(idle: Idle) -> None:
    await idle.offered()
    (lease,) = await take(idle.broker, Stage.CHUNKING)
    await idle.broker.dead_letter(lease, reason="and SQL was not told")
    reconciler = idle.reconciler()
    assert await reconciler.find_lost() == 1
    assert await reconciler.offer_jobs() == 1
    assert [one.task.id for one in await take(idle.broker, Stage.CHUNKING)] == [lease.task.id]


async def test_hundreds_of_lost_jobs_are_found_in_passes_and_each_once(idle: Idle) -> None:
    job_ids = await idle.offered(1_200)
    lost = {(await lose_one(idle.broker, Stage.CHUNKING)).job_id for _ in range(1_100)}
    reconciler = idle.reconciler()
    passes = [await reconciler.find_lost() for _ in range(6)]
    assert sum(passes) == 1_100
    assert max(passes) == 500
    assert await idle.outbox() == lost < set(job_ids)


@on_both_databases
async def test_two_leaders_at_once_put_a_job_back_once(idle: Idle) -> None:
    job_ids = await idle.offered(20)
    for _ in job_ids:
        await lose_one(idle.broker, Stage.CHUNKING)
    found = await asyncio.gather(*(idle.reconciler().find_lost() for _ in range(4)))
    assert sum(found) == 20
    assert await idle.outbox() == set(job_ids)


@on_both_databases
async def test_a_job_that_the_other_leader_offered_meanwhile_is_left_alone(
    idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    await idle.offered()
    await lose_one(idle.broker, Stage.CHUNKING)
    other = idle.reconciler()

    async def the_other_leader_is_first() -> None:
        monkeypatch.undo()
        assert await other.find_lost() == 1
        idle.clock.advance(1)
        assert await other.offer_jobs() == 1

    reconciler = idle.reconciler()
    idle.meanwhile(monkeypatch, the_other_leader_is_first)
    assert await reconciler.find_lost() == 0
    assert await idle.outbox() == set()


@on_both_databases
async def test_a_job_cancelled_meanwhile_is_not_revived(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = await idle.offered()
    await lose_one(idle.broker, Stage.CHUNKING)
    idle.meanwhile(monkeypatch, lambda: idle.system.jobs.of(TENANT).cancel(job_id))
    reconciler = idle.reconciler()
    assert await reconciler.find_lost() == 0
    assert await reconciler.offer_jobs() == 0
    assert (await idle.system.jobs.get_job_status(job_id)).status is JobStatus.CANCELLED
    assert (await idle.broker.depth(Stage.CHUNKING)).ready == 0


@on_both_databases
async def test_a_job_that_moved_meanwhile_is_left_alone(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = await idle.offered()
    await lose_one(idle.broker, Stage.CHUNKING)

    def seal(conn: Connection) -> None:
        jobs.lock(conn, job_id)
        batches.add(conn, {job_id: [Batch(0, 0, 3)]})
        job_completion.seal(conn, [JobEnd(job_id, 3, 1.0)], now=1.0)

    idle.meanwhile(monkeypatch, lambda: idle.database.write(seal))
    assert await idle.reconciler().find_lost() == 0


async def test_a_job_that_moves_on_while_the_stages_are_looked_at_is_not_missed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task is always one step ahead of the look, as far as there is a next stage."""
    broker = await RedisBroker.open(redis_settings(redis_server.url))
    await broker.enqueue(Stage.CHUNKING, [Task("t", TENANT, "job", 1, b"")])
    look = StageScripts.known_jobs
    looked: list[Stage] = []

    async def move_on_then_look(scripts: StageScripts, jobs: Sequence[str]) -> set[str]:
        stage = scripts._stage
        looked.append(stage)
        if stage in PIPELINE[:-1]:
            for lease in await take(broker, stage):
                await broker.enqueue(PIPELINE[PIPELINE.index(stage) + 1], [lease.task])
                assert await broker.ack([lease]) == []
        return await look(scripts, jobs)

    monkeypatch.setattr(StageScripts, "known_jobs", move_on_then_look)
    assert await broker.known_jobs(["job"]) == {"job"}
    assert looked == PIPELINE
    await broker.close()


# --- dead tasks ---------------------------------------------------------------------------------


async def die(idle: Idle, stage: Stage, *tasks: Task) -> None:
    await idle.broker.enqueue(stage, tasks)
    for lease in await take(idle.broker, stage, len(tasks)):
        await idle.broker.dead_letter(lease, reason="poison")


async def dead(idle: Idle, stage: Stage) -> list[str]:
    return [one.task.id for one in await idle.broker.dead(stage)]


@pytest.mark.parametrize("stage", PIPELINE)
async def test_dead_tasks_are_forgotten_when_their_job_has_long_ended(idle: Idle, stage: Stage) -> None:
    job_id, ended = await idle.offered(2)
    await idle.system.jobs.of(TENANT).cancel(ended)
    died = [Task(f"{stage}:{job}", TENANT, job, 1, b"") for job in (job_id, ended, "deleted")]
    idle.clock.advance(time.time() - idle.clock.now())  # the broker's deaths are in its own time
    await die(idle, stage, *died) if stage is not Stage.CHUNKING else await die_beside_others(idle, died)
    reconciler = idle.reconciler()
    await reconciler.find_lost()
    assert len(await dead(idle, stage)) == 3, "evidence, for an hour"
    idle.clock.advance(HOUR_SECONDS + 60)
    await reconciler.find_lost()
    assert await dead(idle, stage) == [died[0].id]


async def die_beside_others(idle: Idle, tasks: Sequence[Task]) -> None:
    waiting = await take(idle.broker, Stage.CHUNKING, 2)
    await die(idle, Stage.CHUNKING, *tasks)
    for lease in waiting:
        assert await idle.broker.hand_back([lease]) == []


async def test_a_dead_deletion_is_tried_again_every_tenth_walk_while_its_document_asks_for_it(
    idle: Idle,
) -> None:
    (job_id,) = await idle.offered()
    document_id = (await idle.database.read(lambda conn: jobs.get_many(conn, [job_id])))[job_id].document_id
    await idle.database.write(lambda conn: ask_for_cleanup(conn, document_id))
    await die(idle, Stage.DELETION, *(Task(one, TENANT, one, 1, b"") for one in (document_id, "gone")))
    idle.clock.advance(time.time() - idle.clock.now() + HOUR_SECONDS + 60)
    reconciler = idle.reconciler()
    for _ in range(9):
        await reconciler.find_lost()
        assert await dead(idle, Stage.DELETION) == [document_id]
        idle.clock.advance(RECONCILE_SECONDS)
    await reconciler.find_lost()
    assert await dead(idle, Stage.DELETION) == []
    assert [lease.task.id for lease in await take(idle.broker, Stage.DELETION)] == [document_id]


def ask_for_cleanup(conn: Connection, document_id: str) -> None:
    document_lock.lock(conn, [document_id])
    document_cleanup.request_cleanup(conn, [document_id])
