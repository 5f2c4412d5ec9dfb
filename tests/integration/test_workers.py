"""What workers do around their work: room, leases, retries, and tasks that come too late."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import (
    BrokerUnavailable,
    ModelUnavailable,
    Permanent,
    StorageFull,
    VectorStoreUnavailable,
)
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import EmbeddingPoolSettings, PoolsSettings
from embedfleet.sql.database import Database
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import CollectionKey, VectorRows
from embedfleet.workers.base_worker import Done, Failures, StageLoop
from embedfleet.workers.exclusive_slot import ExclusiveSlot
from embedfleet.workers.services import Services
from embedfleet.workers.worker import Worker
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, make_settings, paragraphs, running, take_ledger, until

# --- back-pressure ---


class GatedStore(ChromaVectorStore):
    """Writes nothing while the gate is closed."""

    gate: asyncio.Event

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await self.gate.wait()
        await super().upsert(collection, rows)


async def test_with_storage_stopped_queues_stop_growing_and_all_resumes(tmp_path: Path) -> None:
    limit = 6
    pool = {"max_queued_tasks": limit, "batch_tasks": 2}
    settings = make_settings(
        tmp_path,
        worker_pools={"embedding": pool, "storage": pool},
        chunking={"batch_chunks": 4},
        tenants={"tiers": {"premium": {"max_in_flight": 4}}},
    )
    store = await GatedStore.open(chroma_directory(settings.data_dir))
    store.gate = asyncio.Event()
    async with running(settings, store=store) as fleet:
        huge = await fleet.submit("1", paragraphs("huge", 1000), chunking_config=ONE_EACH)
        # Full: storage holds its limit (one claim more may have been under way), embedding as well.
        await fleet.eventually(
            lambda depths: depths[Stage.STORAGE].ready >= limit and depths[Stage.EMBEDDING].ready >= limit
        )
        highest = 0
        for _ in range(2000):  # turns of the event loop, in which a leak would show
            await asyncio.sleep(0)
            depth = await fleet.system.broker.depth(Stage.EMBEDDING)
            highest = max(highest, depth.ready)
        assert highest <= limit + 1
        assert (await fleet.system.broker.depth(Stage.STORAGE)).ready <= limit + 2 * 2
        small = await fleet.submit("1", "A small one of another tenant.", user_id="bob")

        async def reached_embedding() -> bool:
            return (await fleet.jobs.get_job_status(small)).progress.sealed

        await until(reached_embedding, fleet.system.database)  # though the queue is full of the other's
        store.gate.set()
        for job_id in (small, huge):
            assert (await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        (await take_ledger(fleet.system)).assert_exact()


# --- a store that is away ---


class AbsentStore(ChromaVectorStore):
    """Fails with what it is told to."""

    failure: Exception | None = None

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        if self.failure is not None:
            raise self.failure
        await super().upsert(collection, rows)


@pytest.mark.parametrize(
    "failure", [VectorStoreUnavailable("chroma: away"), StorageFull("disk: full; free some space")]
)
async def test_work_waits_for_a_store_that_is_away_however_long_and_says_why(
    tmp_path: Path, failure: Exception
) -> None:
    settings = make_settings(tmp_path, worker_pools={"storage": {"max_attempts": 1}})
    store = await AbsentStore.open(chroma_directory(settings.data_dir))
    store.failure = failure
    async with running(settings, store=store) as fleet:
        job_id = await fleet.submit("1", "Patience.")
        await fleet.eventually(lambda depths: depths[Stage.STORAGE].delayed == 1)
        await fleet.eventually(lambda depths: depths[Stage.STORAGE].delayed == 0)  # it came again
        await fleet.eventually(lambda depths: depths[Stage.STORAGE].delayed == 1)  # and waits again
        assert fleet.system.orchestrator.trouble is failure
        assert not (await fleet.jobs.get_job_status(job_id)).status.terminal
        store.failure = None
        assert (await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        assert fleet.system.orchestrator.trouble is None


async def test_a_store_that_refuses_for_good_costs_the_batch_not_the_worker(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    store = await AbsentStore.open(chroma_directory(settings.data_dir))
    store.failure = Permanent("not these rows")
    async with running(settings, store=store) as fleet:
        info = await fleet.ingest("1", "Unwanted.")
        assert (info.status, info.progress.chunks_dead) == (JobStatus.FAILED, 1)
        store.failure = None
        assert (await fleet.ingest("2", "Wanted.")).status is JobStatus.COMPLETED
        (await take_ledger(fleet.system)).assert_exact()


# --- late tasks ---


class SlowStore(ChromaVectorStore):
    """Stops inside a write until told to go on."""

    entered: asyncio.Event
    go_on: asyncio.Event

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self.entered.set()
        await self.go_on.wait()
        await super().upsert(collection, rows)


@pytest.mark.parametrize("end", ["cancel", "supersede", "delete"])
async def test_a_write_that_lands_after_the_end_of_its_job_leaves_no_vector(tmp_path: Path, end: str) -> None:
    settings = make_settings(tmp_path)
    store = await SlowStore.open(chroma_directory(settings.data_dir))
    store.entered, store.go_on = asyncio.Event(), asyncio.Event()
    async with running(settings, store=store) as fleet:
        job_id = await fleet.submit("1", paragraphs("late", 5), chunking_config=ONE_EACH)
        await store.entered.wait()
        if end == "cancel":
            await fleet.jobs.of(TENANT).cancel(job_id)
        elif end == "delete":
            await fleet.jobs.of(TENANT).delete_document(media_id="1")
            await fleet.settled()  # the document's last row is gone before the write lands
        else:
            await fleet.submit("1", "Something else.")
        store.go_on.set()
        await fleet.idle()
        await fleet.settled()
        await fleet.idle()
        ledger = await take_ledger(fleet.system)
        ledger.assert_exact()
        assert len(ledger.held) == (1 if end == "supersede" else 0)


# --- leases and attempts, with a loop that does what it is told ---


class ScriptedLoop(StageLoop):
    """Does what `script` says to each delivery."""

    stage = Stage.EMBEDDING

    def __init__(self, broker: MemoryBroker, *, slot: ExclusiveSlot | None = None, **pool: float) -> None:
        pools = PoolsSettings(embedding=EmbeddingPoolSettings.model_validate(pool))
        never_opened = Database("sqlite://")
        slot = slot or ExclusiveSlot()
        super().__init__(
            "scripted", Services(broker, never_opened, Metrics(), ManualClock(), pools, exclusive_slot=slot)
        )
        self.deliveries: list[Lease] = []
        self.claims: list[int] = []
        self.in_hand: list[int] = []
        self.given_up: list[str] = []
        self.failure: Exception | None = None
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        self.deliveries += leases
        self.claims.append(len(leases))
        self.in_hand.append((await self._broker.depth(self.stage)).leased)
        self.entered.set()
        await self.go_on.wait()
        return {} if self.failure is None else {lease.task.id: self.failure for lease in leases}

    async def give_up(self, lease: Lease, reason: str) -> None:
        self.given_up.append(reason)


async def claim(broker: MemoryBroker) -> list[Lease]:
    return await broker.claim(Stage.EMBEDDING, worker="w", max_tasks=8, max_cost=10**6, lease_seconds=60)


@pytest.fixture
async def broker(clock: ManualClock) -> MemoryBroker:
    broker = MemoryBroker(clock=clock)
    await broker.enqueue(Stage.EMBEDDING, [Task(id="j:1:0", tenant="t", job_id="j", cost=1, payload=b"x")])
    return broker


async def again(broker: MemoryBroker, clock: ManualClock) -> list[Lease]:
    clock.advance(3600)
    await broker.promote_due(Stage.EMBEDDING)
    return await claim(broker)


async def test_a_defect_is_retried_as_often_as_allowed_and_then_given_up(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    loop = ScriptedLoop(broker, max_attempts=3)
    loop.failure = RuntimeError("a defect")
    await loop.work(await claim(broker))
    await loop.work(await again(broker, clock))
    assert loop.given_up == []
    await loop.work(await again(broker, clock))
    assert len(loop.deliveries) == 3
    assert loop.given_up == ["RuntimeError('a defect')"]
    (dead,) = await broker.dead(Stage.EMBEDDING)
    assert dead.task.payload == b"x"


async def test_a_task_waits_uncounted_and_as_long_as_the_service_says(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    loop = ScriptedLoop(broker, max_attempts=1)
    loop.failure = ModelUnavailable("the server is busy", retry_after_seconds=60)
    await loop.work(await claim(broker))
    clock.advance(59.9)
    assert await broker.promote_due(Stage.EMBEDDING) == 0
    clock.advance(0.7)  # the worker's own back-off comes on top
    assert await broker.promote_due(Stage.EMBEDDING) == 1
    (lease,) = await claim(broker)
    assert lease.attempt == 1


async def test_a_permanent_error_is_given_up_at_once(broker: MemoryBroker) -> None:
    loop = ScriptedLoop(broker)
    loop.failure = Permanent("never")
    await loop.work(await claim(broker))
    assert loop.given_up == ["never"]


async def test_a_task_whose_workers_died_without_a_word_is_given_up_before_it_kills_another(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    loop = ScriptedLoop(broker, max_attempts=3)
    for _ in range(3):  # three workers claim it and are never heard of again
        await claim(broker)
        clock.advance(3600)
        await broker.reap_expired(Stage.EMBEDDING)
    await loop.work(await claim(broker))
    assert loop.deliveries == []
    assert loop.given_up == ["its worker died or failed 3 times"]


async def test_a_lease_is_renewed_while_the_work_takes_its_time(
    broker: MemoryBroker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = ScriptedLoop(broker, lease_seconds=1)
    loop.go_on.clear()
    renewed = asyncio.Event()
    renew = broker.renew

    async def told(*arguments: object, **named: object) -> list[Lease]:
        answer = await renew(*arguments, **named)  # type: ignore[arg-type]
        renewed.set()
        return answer

    monkeypatch.setattr(broker, "renew", told)
    working = asyncio.create_task(loop.work(await claim(broker)))
    await loop.entered.wait()
    clock.advance(59)  # nearly the whole lease
    await renewed.wait()
    clock.advance(0.9)  # past the first lease's end, within the renewed one
    assert await broker.reap_expired(Stage.EMBEDDING) == 0
    loop.go_on.set()
    await working
    assert (await broker.depth(Stage.EMBEDDING)).done == 1


async def test_a_cancelled_worker_hands_back_what_it_holds_uncounted(broker: MemoryBroker) -> None:
    """The second signal: others may have the task at once, not after the lease."""
    loop = ScriptedLoop(broker)
    loop.go_on.clear()
    working = asyncio.create_task(loop.work(await claim(broker)))
    await loop.entered.wait()
    working.cancel()
    await asyncio.wait([working])
    assert working.cancelled()
    (lease,) = await claim(broker)
    assert lease.attempt == 1


class AwayBroker(MemoryBroker):
    """Cannot be reached while `away` is set."""

    away = False
    tried: asyncio.Event
    answered = asyncio.Event()

    async def claim(self, *arguments: Any, **named: Any) -> list[Lease]:
        self._reach()
        self.answered.set()
        return await super().claim(*arguments, **named)

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        self._reach()
        return await super().ack(leases)

    def _reach(self) -> None:
        if self.away:
            self.tried.set()
            raise BrokerUnavailable("redis: away")


async def test_a_broker_that_answers_one_loop_of_a_worker_answers_all() -> None:
    broker = AwayBroker()
    broker.tried, broker.answered = asyncio.Event(), asyncio.Event()
    broker.away = True
    worker = Worker([ScriptedLoop(broker) for _ in range(8)])
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(stop))
    for _ in range(8):  # in turn
        broker.tried.clear()
        await broker.tried.wait()
    assert isinstance(worker.trouble, BrokerUnavailable)
    broker.away = False
    await broker.answered.wait()
    await asyncio.sleep(0)
    assert worker.trouble is None
    stop.set()
    await working


async def test_a_worker_waits_for_a_broker_that_is_away_and_settles_what_it_has_done() -> None:
    broker = AwayBroker()
    broker.tried = asyncio.Event()
    await broker.enqueue(Stage.EMBEDDING, [Task(id="j:1:0", tenant="t", job_id="j", cost=1, payload=b"x")])
    loop = ScriptedLoop(broker)
    loop.go_on.clear()
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    await loop.entered.wait()
    broker.away = True
    loop.go_on.set()
    await broker.tried.wait()  # the work is done, the ack cannot be said
    assert isinstance(loop.trouble, BrokerUnavailable)
    broker.tried.clear()
    await broker.tried.wait()  # and is tried again
    broker.away = False
    async with asyncio.timeout(HANG_SECONDS):
        while (await broker.depth(Stage.EMBEDDING)).done == 0:  # noqa: ASYNC110 - the broker sends no signal
            await asyncio.sleep(0)
    assert len(loop.deliveries) == 1
    broker.away = True
    broker.tried.clear()
    await broker.tried.wait()  # idle, it goes on asking
    broker.away = False
    await broker.enqueue(Stage.EMBEDDING, [Task(id="j:1:1", tenant="t", job_id="j", cost=1, payload=b"x")])
    async with asyncio.timeout(HANG_SECONDS):
        while (await broker.depth(Stage.EMBEDDING)).done == 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
    stop.set()
    await running


async def test_a_result_whose_lease_was_lost_is_dropped_and_the_new_holder_finishes(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    loop = ScriptedLoop(broker, lease_seconds=3600)
    loop.go_on.clear()
    slow = asyncio.create_task(loop.work(await claim(broker)))
    await loop.entered.wait()
    clock.advance(61)
    assert await broker.reap_expired(Stage.EMBEDDING) == 1
    (taken_over,) = await claim(broker)
    loop.go_on.set()
    await slow
    depth = await broker.depth(Stage.EMBEDDING)
    assert (depth.leased, depth.done) == (1, 0)
    assert await broker.ack([taken_over]) == []
    assert await broker.ack([loop.deliveries[0]]) == [loop.deliveries[0]]


async def test_a_task_whose_worker_died_is_tried_with_nothing_else_in_hand(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    others = [Task(id=f"o:1:{n}", tenant="t", job_id="o", cost=1, payload=b"x") for n in range(3)]
    (died,) = await claim(broker)
    await broker.enqueue(Stage.EMBEDDING, others)
    clock.advance(3600)
    await broker.reap_expired(Stage.EMBEDDING)
    loop = ScriptedLoop(broker)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    async with asyncio.timeout(HANG_SECONDS):
        while len(loop.deliveries) < 4:  # noqa: ASYNC110 - the broker sends no signal
            await asyncio.sleep(0)
    stop.set()
    await running
    assert loop.claims == loop.in_hand == [1, 3]
    assert (loop.deliveries[0].task, loop.deliveries[0].attempt) == (died.task, 2)
    assert all(lease.attempt == 1 for lease in loop.deliveries[1:])


async def test_suspects_take_turns_with_the_tasks_of_others_and_do_not_wait_for_whole_claims_of_them(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    """A frozen worker leaves many suspects. Between two of them, fairness gives other tenants one task."""
    suspects = [Task(id=f"s:1:{n}", tenant="t", job_id="s", cost=1, payload=b"x") for n in range(8)]
    await broker.enqueue(Stage.EMBEDDING, suspects[:7])
    assert len(await claim(broker)) == 8  # with the task that the fixture has offered
    await broker.enqueue(
        Stage.EMBEDDING,
        [Task(id=f"o:1:{n}", tenant="other", job_id="o", cost=1, payload=b"x") for n in range(100)],
    )
    clock.advance(3600)
    await broker.reap_expired(Stage.EMBEDDING)
    loop = ScriptedLoop(broker, batch_tasks=64)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    async with asyncio.timeout(HANG_SECONDS):
        while len(loop.deliveries) < 108:  # noqa: ASYNC110 - the broker sends no signal
            await asyncio.sleep(0)
    stop.set()
    await running
    tenants = [lease.task.tenant for lease in loop.deliveries[:16]]
    assert tenants.count("t") == 8
    assert loop.claims[:15] == [1] * 15  # and each suspect is claimed, and charged, once


async def test_a_call_that_hangs_holds_up_a_suspect_and_nothing_else(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    """A suspect is tried alone. What hangs in the same process would otherwise stop every tenant's work."""
    slot = ExclusiveSlot(patience_seconds=0.01)
    hung, loop = ScriptedLoop(broker, slot=slot), ScriptedLoop(broker, slot=slot)
    hung.go_on.clear()
    hung_stop, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(hung.run(hung_stop))
        await hung.entered.wait()
        clock.advance(3600)
        await broker.reap_expired(Stage.EMBEDDING)  # the task that hangs is a suspect now
        others = [Task(id=f"o:1:{n}", tenant="t", job_id="o", cost=1, payload=b"x") for n in range(3)]
        await broker.enqueue(Stage.EMBEDDING, others)
        tasks.create_task(loop.run(stop))
        while (await broker.depth(Stage.EMBEDDING)).done < 3:  # noqa: ASYNC110 - the broker sends no signal
            await asyncio.sleep(0)
        assert {lease.task.job_id for lease in loop.deliveries} == {"o"}
        assert (await broker.depth(Stage.EMBEDDING)).delayed == 1

        hung_stop.set()
        hung.go_on.set()
        clock.advance(slot.patience_seconds)
        await broker.promote_due(Stage.EMBEDDING)
        while (await broker.depth(Stage.EMBEDDING)).done < 4:
            clock.advance(slot.patience_seconds)  # it comes again if the other loop has not left yet
            await broker.promote_due(Stage.EMBEDDING)
            await asyncio.sleep(0)
        stop.set()
    suspect = loop.deliveries[-1]
    assert (suspect.task.job_id, suspect.attempt, loop.in_hand[-1]) == ("j", 2, 1)


class PickyStore(ChromaVectorStore):
    """Refuses every write with a row of a certain text."""

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        if any("unwanted" in text for text in rows.documents or ()):
            raise Permanent("the store cannot hold this text")
        await super().upsert(collection, rows)


async def test_a_row_the_store_refuses_costs_itself_and_not_its_neighbours(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    parts = paragraphs("fine", 40).split("\n\n")
    parts[11] = parts[11].replace("fine", "unwanted")
    text = "\n\n".join(parts)
    async with running(settings, store=await PickyStore.open(chroma_directory(settings.data_dir))) as fleet:
        info = await fleet.ingest("1", text, chunking_config=ONE_EACH)
        ledger = await take_ledger(fleet.system)
    assert (info.status, info.reason) == (JobStatus.COMPLETED_WITH_ERRORS, "1 of 40 chunks failed")
    (missing,) = info.missing
    assert text[missing.start : missing.end] == parts[11].rstrip()
    assert ledger.held == ledger.recorded
    assert len(ledger.promised - ledger.held) == 1


class DeadlyStore(ChromaVectorStore):
    """Its process does not survive a row of a certain text."""

    def _call(self, operation: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        # On the store's own thread: no other call comes between the death and the write.
        if operation == "upsert" and any("deadly" in text for text in args[1].documents or ()):
            assert self._process is not None
            psutil.Process(self._process.pid).kill()
        return super()._call(operation, args, kwargs)


async def test_what_the_stores_process_does_not_survive_is_given_up_and_the_rest_is_stored(
    tmp_path: Path,
) -> None:
    settings = make_settings(tmp_path, worker_pools={"storage": {"max_attempts": 2}})
    async with running(settings, store=await DeadlyStore.open(chroma_directory(settings.data_dir))) as fleet:
        deadly, fine = await fleet.submit("1", "Something deadly."), await fleet.submit("2", "Wanted.")
        lost = await fleet.jobs.wait(deadly, timeout_seconds=HANG_SECONDS)
        assert (lost.status, lost.progress.chunks_dead) == (JobStatus.FAILED, 1)
        assert (await fleet.jobs.wait(fine, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        (await take_ledger(fleet.system)).assert_exact()


async def test_after_a_crash_suspects_are_claimed_one_by_one_and_charged_twice_at_most(
    tmp_path: Path,
) -> None:
    """If each claim took all and handed back all but one, the tenant would pay for all of them each time."""
    count = 12
    claimed: list[str] = []

    class Counting(MemoryBroker):
        async def claim(self, stage: Stage, **how: Any) -> list[Lease]:
            leases = await super().claim(stage, **how)
            claimed.extend(lease.task.id for lease in leases if stage is Stage.EMBEDDING)
            return leases

    settings = make_settings(tmp_path, worker_pools={"embedding": {"workers": 0, "min_workers": 0}})
    broker = Counting()
    async with running(settings, broker=broker) as fleet:
        job_ids = [await fleet.submit(str(n), f"Text {n}.") for n in range(count)]
        await fleet.eventually(lambda depths: depths[Stage.EMBEDDING].ready == count)
        # A worker that dies with all of them: their leases expire, with the attempt counted.
        await broker.claim(
            Stage.EMBEDDING, worker="dead", max_tasks=count, max_cost=10**9, lease_seconds=1e-6
        )
        await broker.reap_expired(Stage.EMBEDDING)
        claimed.clear()
        fleet.system.orchestrator.resize({Stage.EMBEDDING: 1})
        for job_id in job_ids:
            info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
            assert info.status is JobStatus.COMPLETED
    assert max(Counter(claimed).values()) <= 2
