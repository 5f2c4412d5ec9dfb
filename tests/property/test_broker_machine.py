"""Any sequence of calls: the broker does exactly what a naive model of its contract does.

The model is lists and linear scans, fractions instead of strides, and no structure shared with the
implementation. Another broker joins by a subclass of `BrokerMachine` with its own `make_broker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from embedfleet.clock import ManualClock
from embedfleet.errors import LeaseLost
from embedfleet.queue.broker import Broker, DeadTask, Depth, Lane, Lease, Task, TenantShare
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.brokers import end_held
from support.examples import examples
from support.redis_server import RedisServer, redis_settings

STAGES = [Stage.EMBEDDING, Stage.STORAGE]
BURST = 2
LEASE_SECONDS = 10
TENANTS = "abc"
JOBS = [f"j{i}" for i in range(6)]

T = TypeVar("T")

# One stage gets most of what happens, so that a short run goes deep; the other shows they do not mix.
a_stage = st.sampled_from([STAGES[0]] * 4 + [STAGES[1]])
a_tenant = st.sampled_from(TENANTS)
# Weights that millionths hold exactly, as they are: the model divides the weights themselves.
a_share = st.builds(TenantShare, weight=st.sampled_from([0.5, 1.0, 3.0]))
an_offer = st.fixed_dictionaries(
    {
        "tenant": a_tenant,
        "job_id": st.sampled_from(JOBS),
        "cost": st.integers(1, 30),
        "priority": st.sampled_from([50, 50, 0, 100]),
        "lane": st.sampled_from([Lane.BULK, Lane.BULK, Lane.INTERACTIVE]),
        "alone": st.sampled_from([False, False, False, True]),
    }
)
some_tenants = st.one_of(st.just(frozenset[str]()), st.frozensets(a_tenant))
# Rooms for ready tasks: small and large, bounded by tasks, by tokens and by both.
ROOMS = [(4, 1_000), (20, 100), (60, 400)]
some_seconds = st.sampled_from([0, 1, 4, LEASE_SECONDS])


@dataclass(frozen=True)
class Ending:
    """How a worker ends a lease; delay and counted are for `retry_later`."""

    verb: Literal["ack", "hand_back", "dead_letter", "retry_later"]
    delay: int
    counted: bool


an_ending = st.builds(Ending, delay=st.integers(0, 6))


@dataclass
class ModelTask:
    """Everything that can be known of one offered task; it stays in the list after its end."""

    task: Task
    place: int
    state: str = "ready"
    attempt: int = 0
    fence: int = 0
    at: float = 0.0  # leased: expires; delayed: due; dead: died
    doomed: bool = False
    reason: str = ""


@dataclass
class ModelLane:
    """Start-time fair queuing as in the paper: re-derived from who is eligible after every step."""

    virtual_time: Fraction = Fraction(0)
    starts: dict[str, Fraction] = field(default_factory=dict)
    eligible: set[str] = field(default_factory=set)

    def settle(self, eligible: set[str]) -> None:
        for tenant in eligible - self.eligible:
            self.starts[tenant] = max(self.virtual_time, self.starts.get(tenant, Fraction(0)))
        self.eligible = eligible
        if not eligible:
            self.virtual_time, self.starts = Fraction(0), {}

    def serve(self, tenant: str, cost: int, weight: float) -> None:
        self.virtual_time = self.starts[tenant]
        self.starts[tenant] += Fraction(cost) / Fraction(weight)

    def next_tenant(self, passed_over: frozenset[str]) -> str | None:
        served = self.eligible - passed_over
        return min(served, key=lambda tenant: (self.starts[tenant], tenant), default=None)

    def raise_starts(self, tenants: frozenset[str]) -> None:
        for tenant in self.eligible & tenants:
            self.starts[tenant] = max(self.starts[tenant], self.virtual_time)


class ModelStage:
    """One stage by linear scans."""

    def __init__(self, shares: dict[str, TenantShare]) -> None:
        self.shares = shares
        self.tasks: list[ModelTask] = []
        self.lanes = {lane: ModelLane() for lane in Lane}
        self.served: list[tuple[Lane, bool]] = []  # and whether bulk work was eligible then
        self.places = 0

    def in_state(self, *states: str) -> list[ModelTask]:
        return [item for item in self.tasks if item.state in states]

    def unfinished(self, task_id: str) -> ModelTask | None:
        found = [item for item in self.tasks if item.task.id == task_id and item.state != "done"]
        assert len(found) <= 1
        return found[0] if found else None

    def holder(self, lease: Lease) -> ModelTask | None:
        item = self.unfinished(lease.task.id)
        return item if item and item.state == "leased" and item.fence == lease.fence else None

    def settle(self) -> None:
        for lane, model_lane in self.lanes.items():
            model_lane.settle({i.task.tenant for i in self.in_state("ready") if i.task.lane is lane})

    def share(self, tenant: str) -> TenantShare:
        return self.shares.get(tenant, TenantShare())

    def line_up(self, task: Task) -> None:
        self.places += 1
        self.tasks.append(ModelTask(task, self.places))
        self.settle()

    def next_lane(self, passed_over: frozenset[str]) -> Lane | None:
        interactive, bulk = (
            bool(self.lanes[lane].eligible - passed_over) for lane in (Lane.INTERACTIVE, Lane.BULK)
        )
        burst = self.served[-BURST:]
        bulk_is_due = bulk and len(burst) == BURST and all(one == (Lane.INTERACTIVE, True) for one in burst)
        if interactive and not bulk_is_due:
            return Lane.INTERACTIVE
        return Lane.BULK if bulk else None

    def next_task(self, passed_over: frozenset[str] = frozenset()) -> ModelTask | None:
        lane = self.next_lane(passed_over)
        if lane is None:
            return None
        tenant = self.lanes[lane].next_tenant(passed_over)
        mine = [i for i in self.in_state("ready") if i.task.tenant == tenant and i.task.lane is lane]
        return min(mine, key=lambda item: (-item.task.priority, item.place))

    def claim(
        self, now: float, max_tasks: int, max_cost: int, passed_over: frozenset[str]
    ) -> list[ModelTask]:
        taken: list[ModelTask] = []
        while len(taken) < max_tasks:
            item = self.next_task(passed_over)
            if item is None or (taken and sum(i.task.cost for i in [*taken, item]) > max_cost):
                break
            alone = item.task.alone or item.attempt > 0
            if taken and alone:
                break
            task = item.task
            self.served.append((task.lane, bool(self.lanes[Lane.BULK].eligible - passed_over)))
            self.lanes[task.lane].serve(task.tenant, task.cost, self.share(task.tenant).weight)
            item.state, item.at, item.attempt = "leased", now + LEASE_SECONDS, item.attempt + 1
            taken.append(item)
            self.settle()
            if alone:
                break
        for lane in self.lanes.values():
            lane.raise_starts(passed_over)
        return taken

    def crowded(self, max_tasks: int, max_cost: int) -> set[str]:
        ready = self.in_state("ready")
        weights = {tenant: Fraction(self.share(tenant).weight) for tenant in {i.task.tenant for i in ready}}
        found = set()
        for tenant, weight in weights.items():
            share = weight / sum(weights.values())
            costs = [item.task.cost for item in ready if item.task.tenant == tenant]
            if len(costs) >= share * max_tasks or sum(costs) >= share * max_cost:
                found.add(tenant)
        return found

    def end(self, item: ModelTask, ending: Ending, now: float) -> None:
        match ending.verb:
            case "ack":
                item.state = "done"
            case "hand_back":
                item.attempt -= 1
                item.state = "done" if item.doomed else "ready"
            case "dead_letter":
                item.state, item.at, item.reason = "dead", now, "poison"
                self.tasks.remove(item)
                self.tasks.append(item)  # dead letters are listed oldest first
            case "retry_later":
                item.attempt -= not ending.counted
                item.state, item.at = "done" if item.doomed else "delayed", now + ending.delay
        self.settle()

    def come_back(self, item: ModelTask) -> None:
        item.state = "done" if item.doomed else "ready"
        self.settle()

    def longest(self, state: str, now: float, limit: int) -> list[ModelTask]:
        over = [item for item in self.in_state(state) if item.at <= now]
        return sorted(over, key=lambda item: (item.at, item.task.id))[:limit]

    def depth(self) -> Depth:
        counts = {state: self.in_state(state) for state in ("ready", "leased", "delayed", "dead", "done")}
        return Depth(
            **{state: len(items) for state, items in counts.items()},
            enqueued=len(self.tasks),
            **{f"{s}_cost": sum(i.task.cost for i in counts[s]) for s in ("ready", "leased", "delayed")},
        )


class BrokerMachine(RuleBasedStateMachine):
    """Every call goes to the broker and to the model; answers, depths and readiness must agree."""

    leases: Bundle[Lease] = Bundle("leases")  # live and stale ones: nothing is ever taken out

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(start=0.0)
        self.broker = self.make_broker(self.clock)
        self.shares: dict[str, TenantShare] = {}
        self.stages = {stage: ModelStage(self.shares) for stage in STAGES}
        self.known: list[Task] = []
        self.claimed: list[Lease] = []

    def make_broker(self, clock: ManualClock) -> Broker:
        """A new, empty broker with this clock and `interactive_burst=BURST`."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.call(self.broker.close())
        self.loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    @initialize(
        shares=st.fixed_dictionaries(dict.fromkeys(TENANTS, a_share)),
        offers=st.lists(an_offer, min_size=10, max_size=25),
    )
    def begin_with_work(self, shares: dict[str, TenantShare], offers: list[dict[str, Any]]) -> None:
        for tenant, share in shares.items():
            self.set_share(tenant, share)
        self.enqueue(STAGES[0], offers)

    @rule(tenant=a_tenant, share=a_share)
    def set_share(self, tenant: str, share: TenantShare) -> None:
        self.shares[tenant] = share
        self.call(self.broker.set_shares({tenant: share}))
        for model in self.stages.values():
            model.settle()

    @rule(stage=a_stage, offers=st.lists(an_offer, min_size=1, max_size=8))
    def enqueue(self, stage: Stage, offers: list[dict[str, Any]]) -> None:
        tasks = [
            Task(id=f"t{i:03}", payload=b"", **offer) for i, offer in enumerate(offers, start=len(self.known))
        ]
        self.known += tasks
        for task in tasks:
            self.stages[stage].line_up(task)
        assert self.call(self.broker.enqueue(stage, tasks)) == len(tasks)

    @rule(stage=a_stage, numbers=st.lists(st.integers(0, 30), min_size=1, max_size=8))
    def offer_again(self, stage: Stage, numbers: list[int]) -> None:
        tasks = [self.known[number] for number in numbers if number < len(self.known)]
        new = 0
        for task in tasks:
            if self.stages[stage].unfinished(task.id) is None:
                self.stages[stage].line_up(task)
                new += 1
        assert self.call(self.broker.enqueue(stage, tasks)) == new

    @rule(
        target=leases,
        stage=a_stage,
        max_tasks=st.sampled_from([6, 3, 1]),
        max_cost=st.sampled_from([1_000, 1_000, 60, 1]),
        passing_over=some_tenants,
    )
    def claim(
        self, stage: Stage, max_tasks: int, max_cost: int, passing_over: frozenset[str]
    ) -> MultipleResults[Lease]:
        model = self.stages[stage]
        highest_fence = max((item.fence for item in model.tasks), default=0)
        got = self.call(
            self.broker.claim(
                stage,
                worker="w",
                max_tasks=max_tasks,
                max_cost=max_cost,
                lease_seconds=LEASE_SECONDS,
                passing_over=passing_over,
            )
        )
        expected = model.claim(self.clock.now(), max_tasks, max_cost, passing_over)
        assert [(lease.task, lease.attempt, lease.expires_at) for lease in got] == [
            (item.task, item.attempt, item.at) for item in expected
        ]
        for lease, item in zip(got, expected, strict=True):
            assert lease.stage is stage
            assert lease.fence > highest_fence
            highest_fence = item.fence = lease.fence
        self.claimed += got
        return multiple(*got)

    @rule(lease=leases, ending=an_ending)
    def end(self, lease: Lease, ending: Ending) -> None:
        model = self.stages[lease.stage]
        item = model.holder(lease)
        try:
            self.call(self.end_at_broker(lease, ending))
        except LeaseLost:
            assert item is None, "the lease held"
        else:
            assert item is not None, "the lease was stale"
            model.end(item, ending, self.clock.now())

    @rule(stage=a_stage, ending=an_ending)
    def end_all_held(self, stage: Stage, ending: Ending) -> None:
        for lease in [lease for lease in self.claimed if lease.stage is stage]:
            if self.stages[stage].holder(lease):
                self.end(lease, ending)

    @rule(some=st.lists(leases, max_size=8), ending=an_ending)
    def end_together(self, some: list[Lease], ending: Ending) -> None:
        """In one call, of both stages, the same lease perhaps twice."""
        if ending.verb not in ("ack", "hand_back"):
            return
        lost = []
        for lease in some:
            model = self.stages[lease.stage]
            item = model.holder(lease)
            if item is None:
                lost.append(lease)
            else:
                model.end(item, ending, self.clock.now())
        end = self.broker.ack if ending.verb == "ack" else self.broker.hand_back
        assert self.call(end(some)) == lost

    def end_at_broker(self, lease: Lease, ending: Ending) -> Coroutine[Any, Any, None]:
        match ending.verb:
            case "ack":
                return end_held(self.broker.ack, lease)
            case "hand_back":
                return end_held(self.broker.hand_back, lease)
            case "dead_letter":
                return self.broker.dead_letter(lease, reason="poison")
            case "retry_later":
                return self.broker.retry_later(
                    lease, delay_seconds=ending.delay, reason="busy", counted=ending.counted
                )

    @rule(some=st.lists(leases, max_size=4, unique_by=lambda lease: (lease.stage, lease.fence)))
    def renew(self, some: list[Lease]) -> None:
        expires_at = self.clock.now() + 2 * LEASE_SECONDS
        expected = []
        for lease in some:
            if item := self.stages[lease.stage].holder(lease):
                item.at = expires_at
                expected.append(replace(lease, expires_at=expires_at))
        assert self.call(self.broker.renew(some, lease_seconds=2 * LEASE_SECONDS)) == expected

    @rule(stage=a_stage, seconds=some_seconds, limit=st.integers(1, 5))
    def reap_expired(self, stage: Stage, seconds: int, limit: int) -> None:
        self.clock.advance(seconds)
        model = self.stages[stage]
        expired = model.longest("leased", self.clock.now(), limit)
        for item in expired:
            model.come_back(item)
        assert self.call(self.broker.reap_expired(stage, limit=limit)) == len(expired)

    @rule(stage=a_stage, seconds=some_seconds, limit=st.integers(1, 5))
    def promote_due(self, stage: Stage, seconds: int, limit: int) -> None:
        self.clock.advance(seconds)
        model = self.stages[stage]
        due = model.longest("delayed", self.clock.now(), limit)
        for item in due:
            model.come_back(item)
        assert self.call(self.broker.promote_due(stage, limit=limit)) == len(due)

    @rule(stage=a_stage, numbers=st.lists(st.integers(0, 30), max_size=8))
    def requeue_dead(self, stage: Stage, numbers: list[int]) -> None:
        model = self.stages[stage]
        ids = [self.known[number].id for number in numbers if number < len(self.known)]
        requeued = 0
        for task_id in ids:
            item = model.unfinished(task_id)
            if item is not None and item.state == "dead":
                model.tasks.remove(item)
                model.line_up(item.task)
                requeued += 1
        assert self.call(self.broker.requeue_dead(stage, ids)) == requeued

    @rule(stage=a_stage, numbers=st.lists(st.integers(0, 30), max_size=8))
    def drop_dead(self, stage: Stage, numbers: list[int]) -> None:
        model = self.stages[stage]
        ids = [self.known[number].id for number in numbers if number < len(self.known)]
        dropped = 0
        for task_id in ids:
            item = model.unfinished(task_id)
            if item is not None and item.state == "dead":
                item.state = "done"
                dropped += 1
        assert self.call(self.broker.drop_dead(stage, ids)) == dropped

    @rule(job=st.sampled_from(JOBS))
    def cancel_job(self, job: str) -> None:
        dropped = 0
        for model in self.stages.values():
            for item in model.in_state("ready", "leased", "delayed"):
                if item.task.job_id == job:
                    item.doomed = True
                    if item.state != "leased":
                        item.state = "done"
                        dropped += 1
            model.settle()
        assert self.call(self.broker.cancel_job(job)) == dropped

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        for stage, model in self.stages.items():
            depth = self.call(self.broker.depth(stage))
            assert depth == model.depth()
            assert depth.enqueued == depth.ready + depth.leased + depth.delayed + depth.dead + depth.done

    @invariant()
    def jobs_with_work_are_known(self) -> None:
        at_work = {
            item.task.job_id
            for model in self.stages.values()
            for item in model.in_state("ready", "leased", "delayed")
        }
        assert self.call(self.broker.known_jobs(JOBS)) == at_work

    @invariant()
    def dead_letters_and_crowded_tenants_agree(self) -> None:
        for stage, model in self.stages.items():
            assert self.call(self.broker.dead(stage)) == [
                DeadTask(item.task, item.attempt, item.reason, item.at) for item in model.in_state("dead")
            ]
            for max_tasks, max_cost in ROOMS:
                asked = self.broker.crowded(stage, TENANTS, max_tasks=max_tasks, max_cost=max_cost)
                assert self.call(asked) == model.crowded(max_tasks, max_cost)

    @invariant()
    def whoever_waits_is_told_of_work(self) -> None:
        for stage, model in self.stages.items():
            told = self.call(self.broker.wait_for_ready(stage, timeout_seconds=0))
            assert told or model.next_task() is None


class ExactBrokerMachine(BrokerMachine):
    @invariant()
    def whoever_waits_is_told_only_of_work(self) -> None:
        """More than is promised: the hint is exact."""
        for stage, model in self.stages.items():
            told = self.call(self.broker.wait_for_ready(stage, timeout_seconds=0))
            assert told == (model.next_task() is not None)


class MemoryBrokerMachine(ExactBrokerMachine):
    def make_broker(self, clock: ManualClock) -> Broker:
        return MemoryBroker(clock=clock, interactive_burst=BURST)


class RedisBrokerMachine(ExactBrokerMachine):
    server: ClassVar[RedisServer]

    def make_broker(self, clock: ManualClock) -> Broker:
        with self.server.client() as client:
            client.flushall()
        return self.call(
            RedisBroker.open(redis_settings(self.server.url), clock=clock, interactive_burst=BURST)
        )


TestMemoryBroker = MemoryBrokerMachine.TestCase
TestMemoryBroker.settings = settings(max_examples=examples(160), stateful_step_count=60)


@pytest.fixture
def machines_use(shared_redis: RedisServer) -> None:
    RedisBrokerMachine.server = shared_redis


TestRedisBroker = pytest.mark.usefixtures("machines_use")(RedisBrokerMachine.TestCase)
TestRedisBroker.settings = settings(max_examples=examples(40), stateful_step_count=50)
