"""Any sequence of calls at the edges of what is allowed: Redis answers as `MemoryBroker` does.

`test_broker_machine` compares each with a naive model, on values for which the model is exact. Here are
the others: weights whose price is rounded, costs that carry virtual time past its rebase, texts that
look like separators.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from embedfleet.clock import ManualClock
from embedfleet.errors import LeaseLost
from embedfleet.queue.broker import MAX_COST, MAX_WEIGHT, MIN_WEIGHT, Broker, Lane, Lease, Task, TenantShare
from embedfleet.queue.keys import stage_key
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue.redis_records import decoded
from embedfleet.queue_schemas import Stage
from support.brokers import end_held
from support.examples import examples
from support.redis_server import RedisServer, redis_settings

STAGE = Stage.EMBEDDING
BURST = 3
ODD_TEXTS = ["a", "ab", "é", "a\x00", "{x}:ready", "b i", "\ud800", "\U0010ffff", "a\xff", "ib"]

T = TypeVar("T")

a_text = st.sampled_from(ODD_TEXTS)
a_share = st.builds(
    TenantShare,
    weight=st.one_of(st.sampled_from([MIN_WEIGHT, MAX_WEIGHT, 1.0]), st.floats(MIN_WEIGHT, MAX_WEIGHT)),
)
an_offer = st.builds(
    Task,
    id=st.tuples(a_text, a_text).map("".join),
    tenant=a_text,
    job_id=a_text,
    cost=st.one_of(st.integers(1, MAX_COST), st.just(MAX_COST)),
    payload=st.binary(max_size=4),
    priority=st.integers(0, 100),
    lane=st.sampled_from(Lane),
)


class Brokers(RuleBasedStateMachine):
    """Leases are kept in pairs, for fences differ."""

    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(start=0.1)
        self.memory = MemoryBroker(clock=self.clock, interactive_burst=BURST)
        with self.server.client() as client:
            client.flushall()
        self.redis = self.wait(
            RedisBroker.open(redis_settings(self.server.url), clock=self.clock, interactive_burst=BURST)
        )
        self.leases: list[tuple[Lease, Lease]] = []

    def teardown(self) -> None:
        self.wait(self.redis.close())
        self.loop.close()

    def wait(self, awaitable: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await awaitable

        return self.loop.run_until_complete(awaited())

    def both(self, call: Callable[[Broker], Awaitable[T]]) -> T:
        expected = self.wait(call(self.memory))
        assert self.wait(call(self.redis)) == expected
        return expected

    @initialize(shares=st.dictionaries(a_text, a_share), offers=st.lists(an_offer, min_size=8, max_size=30))
    def begin(self, shares: dict[str, TenantShare], offers: list[Task]) -> None:
        for tenant, share in shares.items():
            self.set_share(tenant, share)
        self.enqueue(offers)

    @rule(tenant=a_text, share=a_share)
    def set_share(self, tenant: str, share: TenantShare) -> None:
        self.both(lambda broker: broker.set_shares({tenant: share}))

    @rule(offers=st.lists(an_offer, min_size=1, max_size=10))
    def enqueue(self, offers: list[Task]) -> None:
        self.both(lambda broker: broker.enqueue(STAGE, offers))

    @rule(
        max_tasks=st.integers(1, 12),
        max_cost=st.sampled_from([1, MAX_COST, 10 * MAX_COST]),
        lease_seconds=st.floats(0.1, 9),
        passing_over=st.one_of(st.just([]), st.lists(a_text, max_size=6)),
    )
    def claim(self, max_tasks: int, max_cost: int, lease_seconds: float, passing_over: list[str]) -> None:
        taken: list[list[Lease]] = [
            self.wait(
                broker.claim(
                    STAGE,
                    worker="w",
                    max_tasks=max_tasks,
                    max_cost=max_cost,
                    lease_seconds=lease_seconds,
                    passing_over=passing_over,
                )
            )
            for broker in (self.memory, self.redis)
        ]
        expected, got = ([(one.task, one.attempt, one.expires_at) for one in leases] for leases in taken)
        assert got == expected
        self.leases += zip(*taken, strict=True)

    @rule(
        number=st.integers(0, 50),
        verb=st.sampled_from(["ack", "ack", "hand_back", "dead_letter", "retry_later"]),
        delay=st.floats(0, 5),
        counted=st.booleans(),
    )
    def end(self, number: int, verb: str, delay: float, counted: bool) -> None:
        """Of a lease that holds or not: nothing is ever taken out."""
        if number >= len(self.leases):
            return
        outcomes = []
        brokers: tuple[Broker, Broker] = (self.memory, self.redis)
        for broker, lease in zip(brokers, self.leases[-1 - number], strict=True):
            calls: dict[str, Callable[[], Awaitable[None]]] = {
                "ack": lambda: end_held(broker.ack, lease),  # noqa: B023 - called at once
                "hand_back": lambda: end_held(broker.hand_back, lease),  # noqa: B023
                "dead_letter": lambda: broker.dead_letter(lease, reason="poison \x00"),  # noqa: B023
                "retry_later": lambda: broker.retry_later(  # noqa: B023
                    lease,  # noqa: B023
                    delay_seconds=delay,
                    reason="busy",
                    counted=counted,
                ),
            }
            try:
                self.wait(calls[verb]())
            except LeaseLost:
                outcomes.append("lost")
            else:
                outcomes.append("held")
        assert len(set(outcomes)) == 1

    @rule(seconds=st.floats(0, 9))
    def come_back(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.both(lambda broker: broker.reap_expired(STAGE, limit=3))
        self.both(lambda broker: broker.promote_due(STAGE, limit=3))

    @rule(job=a_text)
    def cancel_job(self, job: str) -> None:
        self.both(lambda broker: broker.cancel_job(job))

    @rule()
    def requeue_dead(self) -> None:
        dead = self.both(lambda broker: broker.dead(STAGE, limit=2))
        self.both(lambda broker: broker.requeue_dead(STAGE, [one.task.id for one in reversed(dead)]))

    @rule()
    def drop_dead(self) -> None:
        dead = self.both(lambda broker: broker.dead(STAGE, limit=1))
        self.both(lambda broker: broker.drop_dead(STAGE, [*(one.task.id for one in dead), "unheard of"]))

    @invariant()
    def known_jobs_agree(self) -> None:
        self.both(lambda broker: broker.known_jobs(ODD_TEXTS))

    @invariant()
    def tasks_of_jobs_agree(self) -> None:
        for job in ODD_TEXTS:
            self.both(lambda broker: broker.tasks_of(STAGE, job))  # noqa: B023 - called at once

    @invariant()
    def counts_agree(self) -> None:
        self.both(lambda broker: broker.depth(STAGE))
        self.both(lambda broker: broker.wait_for_ready(STAGE, timeout_seconds=0))

    @invariant()
    def dead_letters_agree(self) -> None:
        self.both(lambda broker: broker.dead(STAGE))

    @invariant()
    def weights_and_ready_work_agree(self) -> None:
        """Of all tenants, to the last token, so that a count that went astray is seen at once."""
        total, work = self.wait(self.redis._stages[STAGE].crowded(ODD_TEXTS))
        ready = self.memory._queues[STAGE]._order
        assert total == ready.total_weight
        expected = [ready.work_of(tenant) for tenant in ODD_TEXTS]
        assert [(one.tasks, one.cost) for one in work] == [(one.tasks, one.cost) for one in expected]
        assert [one.weight for one in work if one.tasks] == [one.weight for one in expected if one.tasks]
        self.both(lambda broker: broker.crowded(STAGE, ODD_TEXTS, max_tasks=6, max_cost=4 * MAX_COST))

    @invariant()
    def virtual_starts_agree(self) -> None:
        """Of all tenants with work, so that an order that will differ is seen before it is asked for."""
        for lane in Lane:
            fair = self.memory._queues[STAGE]._order._lanes[lane].fair
            expected = {tenant: fair._starts[tenant] for tenant in fair._eligible}
            with self.server.client() as client:
                found = client.zrange(stage_key("embedfleet", STAGE, lane.value), 0, -1, withscores=True)
            assert {decoded(tenant): start for tenant, start in found} == expected


@pytest.fixture(autouse=True)
def machines_use(shared_redis: RedisServer) -> None:
    Brokers.server = shared_redis


TestBrokersAgree = Brokers.TestCase
TestBrokersAgree.settings = settings(max_examples=examples(40), stateful_step_count=40)
