"""What every broker must promise: the sentences of `embedfleet.queue.broker`, one by one.

A new adapter joins by an entry in `BROKERS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable, InvalidRequest, LeaseLost
from embedfleet.queue.broker import (
    MAX_COST,
    MAX_WEIGHT,
    MIN_WEIGHT,
    Broker,
    Depth,
    Lane,
    Lease,
    Task,
    TenantShare,
)
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue.redis_options import RedisOptions
from embedfleet.queue_schemas import Stage
from support.redis_server import RedisServer
from support.redis_topologies import RedisClusterServers

STAGE = Stage.EMBEDDING
BURST = 3
LEASE_SECONDS = 60.0
LONG_WAIT_SECONDS = 30.0  # only ever waited out by a broker that is wrong
ALL_OF_THEM = 1_000


async def memory_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    return MemoryBroker(clock=clock, interactive_burst=BURST)


async def redis_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    server: RedisServer = request.getfixturevalue("redis_server")
    return await open_redis(server.url, clock)


async def redis_cluster_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    servers: RedisClusterServers = request.getfixturevalue("redis_cluster")
    return await open_redis(servers.url, clock)


async def open_redis(url: str, clock: ManualClock) -> Broker:
    return await RedisBroker.open(
        RedisOptions(url=url),
        clock=clock,
        interactive_burst=BURST,
        look_again_seconds=10 * LONG_WAIT_SECONDS,  # so that who wakes was told
    )


BROKERS = {"memory": memory_broker, "redis": redis_broker, "redis cluster": redis_cluster_broker}


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Broker]:
    broker = await BROKERS[request.param](request, clock)
    yield broker
    await broker.close()


def task(
    task_id: str,
    *,
    tenant: str = "acme",
    job: str = "job",
    cost: int = 10,
    priority: int = 50,
    lane: Lane = Lane.BULK,
) -> Task:
    return Task(
        task_id, tenant, job, cost, payload=f"payload of {task_id}".encode(), priority=priority, lane=lane
    )


def tasks(tenant: str, n: int, *, cost: int = 10, lane: Lane = Lane.BULK) -> list[Task]:
    return [task(f"{tenant}{i}", tenant=tenant, cost=cost, lane=lane) for i in range(1, n + 1)]


async def claim(
    broker: Broker, max_tasks: int = ALL_OF_THEM, *, max_cost: int = MAX_COST, stage: Stage = STAGE
) -> list[Lease]:
    return await broker.claim(
        stage, worker="w1", max_tasks=max_tasks, max_cost=max_cost, lease_seconds=LEASE_SECONDS
    )


async def claim_one(broker: Broker, *, stage: Stage = STAGE) -> Lease:
    [lease] = await claim(broker, 1, stage=stage)
    return lease


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.task.id for lease in leases]


def tenants(leases: Sequence[Lease]) -> str:
    return "".join(lease.task.tenant_id for lease in leases)


async def expire(broker: Broker, clock: ManualClock) -> int:
    clock.advance(LEASE_SECONDS)
    return await broker.reap_expired(STAGE)


# --- enqueue ----------------------------------------------------------------------------------


async def test_enqueue_returns_how_many_tasks_were_new(broker: Broker) -> None:
    assert await broker.enqueue(STAGE, [task("a"), task("b"), task("a")]) == 2
    assert await broker.enqueue(STAGE, [task("b"), task("c")]) == 1
    assert await broker.enqueue(STAGE, []) == 0
    assert ids(await claim(broker)) == ["a", "b", "c"]


async def make_ready(broker: Broker) -> None:
    assert (await broker.depth(STAGE)).ready == 1


async def make_leased(broker: Broker) -> None:
    await claim_one(broker)


async def make_delayed(broker: Broker) -> None:
    await broker.retry_later(await claim_one(broker), delay_seconds=5, reason="busy")


async def make_dead(broker: Broker) -> None:
    await broker.dead_letter(await claim_one(broker), reason="poison")


async def make_acked(broker: Broker) -> None:
    await broker.ack(await claim_one(broker))


async def make_cancelled(broker: Broker) -> None:
    assert await broker.cancel_job("job") == 1


@pytest.mark.parametrize("bring_about", [make_ready, make_leased, make_delayed, make_dead])
async def test_a_task_that_has_not_ended_is_ignored_when_offered_again(
    broker: Broker, bring_about: Callable[[Broker], Awaitable[None]]
) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await bring_about(broker)
    before = await broker.depth(STAGE)

    assert await broker.enqueue(STAGE, [task("a")]) == 0
    assert await broker.depth(STAGE) == before


@pytest.mark.parametrize("bring_about", [make_acked, make_cancelled])
async def test_a_task_that_has_ended_counts_as_new_when_offered_again(
    broker: Broker, bring_about: Callable[[Broker], Awaitable[None]]
) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await bring_about(broker)

    assert await broker.enqueue(STAGE, [task("a")]) == 1
    assert (await claim_one(broker)).attempt == 1
    assert await broker.depth(STAGE) == Depth(leased=1, done=1, enqueued=2, leased_cost=10)


async def test_the_same_id_in_another_stage_is_another_task(broker: Broker) -> None:
    assert await broker.enqueue(Stage.EMBEDDING, [task("a")]) == 1
    assert await broker.enqueue(Stage.STORAGE, [task("a")]) == 1

    await broker.ack(await claim_one(broker, stage=Stage.EMBEDDING))
    lease = await claim_one(broker, stage=Stage.STORAGE)
    assert (lease.stage, lease.task) == (Stage.STORAGE, task("a"))


# --- claim: how much --------------------------------------------------------------------------


async def test_a_claim_with_nothing_ready_is_empty(broker: Broker) -> None:
    assert await claim(broker) == []


async def test_a_claim_takes_no_more_tasks_than_asked_for(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 5))
    assert ids(await claim(broker, 3)) == ["a1", "a2", "a3"]
    assert ids(await claim(broker, 3)) == ["a4", "a5"]


async def test_a_claim_ends_at_the_first_task_that_does_not_fit(broker: Broker) -> None:
    await broker.enqueue(
        STAGE, [task("a", cost=40), task("b", cost=60), task("c", cost=61), task("d", cost=1)]
    )
    assert ids(await claim(broker, max_cost=100)) == ["a", "b"]
    assert ids(await claim(broker, max_cost=61)) == ["c"], "what did not fit is first the next time"


async def test_the_first_task_is_given_whatever_it_costs(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("huge", cost=MAX_COST), task("small", cost=1)])
    assert ids(await claim(broker, max_cost=1)) == ["huge"]


async def test_a_lease_carries_the_task_as_it_was_offered(broker: Broker, clock: ManualClock) -> None:
    offered = task("a", tenant="acme", job="j1", cost=7, priority=3, lane=Lane.INTERACTIVE)
    await broker.enqueue(STAGE, [offered])
    lease = await claim_one(broker)
    assert lease == Lease(STAGE, offered, lease.fence, attempt=1, expires_at=clock.now() + LEASE_SECONDS)


# --- claim: order inside a tenant -------------------------------------------------------------


async def test_a_tenants_higher_priority_goes_first_then_first_in_first_out(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("low", priority=0), task("mid1"), task("mid2")])
    await broker.enqueue(STAGE, [task("high", priority=100), task("mid3")])
    assert ids(await claim(broker)) == ["high", "mid1", "mid2", "mid3", "low"]


async def test_priority_gains_nothing_over_other_tenants(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task(f"a{i}", tenant="a", priority=0) for i in range(3)])
    await broker.enqueue(STAGE, [task(f"b{i}", tenant="b", priority=100) for i in range(3)])
    assert tenants(await claim(broker)) == "ababab"


async def test_a_task_that_comes_back_keeps_its_place_in_line(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("retried"), task("handed back"), task("expired"), task("last")])
    retried, handed_back, _ = await claim(broker, 3)
    await broker.retry_later(retried, delay_seconds=1, reason="busy")
    await broker.hand_back(handed_back)
    assert await expire(broker, clock) == 1
    assert await broker.promote_due(STAGE) == 1
    await broker.enqueue(STAGE, [task("new")])

    assert ids(await claim(broker)) == ["retried", "handed back", "expired", "last", "new"]


# --- claim: fair among tenants ----------------------------------------------------------------


async def test_tenants_share_by_tokens_not_by_tasks(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 4, cost=30), *tasks("b", 12, cost=10)])
    assert tenants(await claim(broker)) == "abbbabbbabbbabbb"


async def test_tenants_share_by_weight(broker: Broker) -> None:
    await broker.set_share("a", TenantShare(weight=1))
    await broker.set_share("b", TenantShare(weight=3))
    await broker.enqueue(STAGE, [*tasks("a", 3), *tasks("b", 9)])
    assert tenants(await claim(broker)) == "abbbabbbabbb"


async def test_equal_starts_go_to_the_lower_tenant_id(broker: Broker) -> None:
    for tenant in ["b", "é", "a", "Z"]:
        await broker.enqueue(STAGE, tasks(tenant, 2))
    assert tenants(await claim(broker)) == "ZabéZabé"


async def test_idle_time_earns_no_credit(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("early", 20), task("late0", tenant="late")])
    await claim(broker, 10)
    await broker.enqueue(STAGE, tasks("late", 20))

    served = [lease.task.tenant_id for lease in await claim(broker, 10)]
    assert served.count("late") == 5, "half of what follows, and nothing for the time before"


async def test_leaving_does_not_shed_what_was_charged(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a1", tenant="a", cost=50), *tasks("b", 10)])
    assert ids(await claim(broker, 1)) == ["a1"]  # a has no work for a moment
    await broker.enqueue(STAGE, [task("a2", tenant="a", cost=50)])
    assert tenants(await claim(broker, 6)) == "bbbbba"


async def test_every_delivery_is_charged(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 2), *tasks("b", 3)])
    first = await claim_one(broker)
    await broker.retry_later(first, delay_seconds=0, reason="busy")
    await broker.promote_due(STAGE)
    assert ids(await claim(broker, 5)) == ["b1", "a1", "b2", "a2", "b3"]


async def test_a_cancelled_task_is_not_charged(broker: Broker) -> None:
    await broker.enqueue(
        STAGE, [task("a0", tenant="a", cost=1000, job="cancelled"), *tasks("a", 2), *tasks("b", 2)]
    )
    await broker.cancel_job("cancelled")
    assert tenants(await claim(broker)) == "abab"


async def test_a_new_weight_counts_from_now_on(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 20), *tasks("b", 20)])
    assert tenants(await claim(broker, 4)) == "abab"
    await broker.set_share("b", TenantShare(weight=4))
    assert tenants(await claim(broker, 10)) == "abbbbabbbb"


async def test_a_noisy_neighbour_delays_a_quiet_tenant_by_one_task_at_most(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("noisy", 10_000))
    await claim(broker, 500)
    await broker.enqueue(STAGE, tasks("quiet", 1))
    assert "quiet1" in ids(await claim(broker, 2))


# --- claim: caps ------------------------------------------------------------------------------


async def end_by_ack(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.ack(lease)


async def end_by_retry(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.retry_later(lease, delay_seconds=5, reason="busy")


async def end_by_hand_back(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.hand_back(lease)


async def end_by_dead_letter(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.dead_letter(lease, reason="poison")


async def end_by_expiry(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    assert await expire(broker, clock) == 1


EndLease = Callable[[Broker, ManualClock, Lease], Awaitable[None]]
ENDINGS: list[EndLease] = [end_by_ack, end_by_retry, end_by_hand_back, end_by_dead_letter, end_by_expiry]


@pytest.mark.parametrize("end", ENDINGS)
async def test_a_tenant_at_its_cap_is_passed_over_until_a_lease_ends(
    broker: Broker, clock: ManualClock, end: EndLease
) -> None:
    await broker.set_share("a", TenantShare(max_in_flight=1))
    await broker.enqueue(STAGE, [*tasks("a", 3), *tasks("b", 1)])
    lease, other = await claim(broker)
    assert (lease.task.id, other.task.id) == ("a1", "b1")
    await broker.ack(other)
    assert await claim(broker) == []

    await end(broker, clock, lease)
    assert tenants(await claim(broker)) == "a"


async def test_a_tenant_back_from_its_cap_has_no_credit_for_the_time(broker: Broker) -> None:
    await broker.set_share("z", TenantShare(max_in_flight=1))
    await broker.enqueue(STAGE, [*tasks("a", 40), *tasks("z", 20)])
    assert tenants(await claim(broker, 20)).count("z") == 1
    await broker.set_share("z", TenantShare())
    assert tenants(await claim(broker, 10)) == "zazazazaza"


async def test_a_cap_counts_both_lanes_of_one_stage(broker: Broker) -> None:
    await broker.set_share("a", TenantShare(max_in_flight=2))
    await broker.enqueue(STAGE, [task("query", tenant="a", lane=Lane.INTERACTIVE), *tasks("a", 2)])
    await broker.enqueue(Stage.STORAGE, tasks("a", 2))

    assert ids(await claim(broker)) == ["query", "a1"]
    assert ids(await claim(broker, stage=Stage.STORAGE)) == ["a1", "a2"], "another stage counts for itself"


async def test_a_lowered_cap_takes_nothing_back(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 4))
    leases = await claim(broker, 3)
    await broker.set_share("a", TenantShare(max_in_flight=2))

    assert await broker.renew(leases, lease_seconds=LEASE_SECONDS) != []
    await broker.ack(leases[0])
    assert await claim(broker) == [], "two are leased still"
    await broker.ack(leases[1])
    assert ids(await claim(broker)) == ["a4"]


# --- claim: the interactive lane --------------------------------------------------------------


async def test_interactive_tasks_go_first_in_bounded_bursts(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("b", 3))
    await broker.enqueue(STAGE, tasks("q", 8, lane=Lane.INTERACTIVE))
    assert tenants(await claim(broker, 2)) == "qq"
    assert tenants(await claim(broker, 7)) == "qbqqqbq", "a burst goes on from claim to claim"
    assert tenants(await claim(broker)) == "qb"


async def test_interactive_tasks_served_while_no_bulk_waited_do_not_count_as_a_burst(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("q", 20, lane=Lane.INTERACTIVE))
    await claim(broker, 10)
    await broker.enqueue(STAGE, tasks("b", 2))
    assert tenants(await claim(broker, 4)) == "q" * BURST + "b"


async def test_bulk_work_at_its_cap_does_not_interrupt_a_burst(broker: Broker) -> None:
    await broker.set_share("b", TenantShare(max_in_flight=1))
    await broker.enqueue(STAGE, tasks("b", 2))
    await claim_one(broker)
    await broker.enqueue(STAGE, tasks("q", 10, lane=Lane.INTERACTIVE))
    assert tenants(await claim(broker)) == "q" * 10


async def test_the_interactive_lane_is_fair_among_tenants_too(broker: Broker) -> None:
    await broker.set_share("b", TenantShare(weight=2))
    for tenant in "ab":
        await broker.enqueue(STAGE, tasks(tenant, 20, lane=Lane.INTERACTIVE))
    assert tenants(await claim(broker, 6)) == "abbabb"


# --- leases: attempts, expiry, renewal --------------------------------------------------------


async def test_fences_grow_with_every_claim(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 2))
    fences = [lease.fence for lease in await claim(broker, 2)]
    await broker.enqueue(STAGE, tasks("b", 1))
    lease = await claim_one(broker)
    await broker.hand_back(lease)
    fences += [lease.fence, (await claim_one(broker)).fence]
    assert fences == sorted(set(fences))


async def test_the_attempt_counts_deliveries_as_they_are_made(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a")])
    assert (await claim_one(broker)).attempt == 1
    assert await expire(broker, clock) == 1, "nobody reported anything, as after a crash"
    lease = await claim_one(broker)
    assert lease.attempt == 2
    await broker.retry_later(lease, delay_seconds=0, reason="busy")
    await broker.promote_due(STAGE)
    assert (await claim_one(broker)).attempt == 3


async def test_a_delivery_handed_back_is_not_counted(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await broker.hand_back(await claim_one(broker))
    assert (await claim_one(broker)).attempt == 1


@pytest.mark.parametrize(("counted", "next_attempt"), [(True, 2), (False, 1)])
async def test_a_retry_takes_its_attempt_back_if_it_does_not_count(
    broker: Broker, counted: bool, next_attempt: int
) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await broker.retry_later(await claim_one(broker), delay_seconds=0, reason="store down", counted=counted)
    await broker.promote_due(STAGE)
    assert (await claim_one(broker)).attempt == next_attempt


async def test_a_lease_expires_exactly_at_its_time(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await claim_one(broker)
    clock.advance(LEASE_SECONDS - 0.001)
    assert await broker.reap_expired(STAGE) == 0
    clock.advance(0.001)
    assert await broker.reap_expired(STAGE) == 1
    assert await broker.reap_expired(STAGE) == 0
    assert ids(await claim(broker)) == ["a"]


async def test_renewing_extends_a_lease_from_now(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    clock.advance(LEASE_SECONDS - 1)
    [renewed] = await broker.renew([lease], lease_seconds=10)
    assert renewed == replace(lease, expires_at=clock.now() + 10)

    clock.advance(9)
    assert await broker.reap_expired(STAGE) == 0
    clock.advance(1)
    assert await broker.reap_expired(STAGE) == 1


async def test_a_renewed_lease_may_be_ended_by_the_lease_from_before(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    await broker.renew([lease], lease_seconds=10)
    await broker.ack(lease)
    assert (await broker.depth(STAGE)).done == 1


async def test_an_expired_lease_holds_until_it_is_reaped(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a"), task("b")])
    late, later = await claim(broker)
    clock.advance(LEASE_SECONDS + 1)
    [renewed] = await broker.renew([late], lease_seconds=LEASE_SECONDS)
    await broker.ack(later)
    assert await broker.reap_expired(STAGE) == 0
    await broker.ack(renewed)


async def test_the_longest_expired_are_reaped_first(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    first, *_ = await claim(broker)
    await broker.renew([first], lease_seconds=LEASE_SECONDS + 1)  # claimed first, expires last
    clock.advance(LEASE_SECONDS + 2)
    assert await broker.reap_expired(STAGE, limit=2) == 2
    assert ids(await claim(broker)) == ["a2", "a3"]


# --- leases: fencing --------------------------------------------------------------------------


async def test_of_many_leases_renew_returns_those_that_hold(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    await broker.enqueue(Stage.STORAGE, tasks("a", 1))
    leases = [*await claim(broker), *await claim(broker, stage=Stage.STORAGE)]
    await broker.ack(leases[1])
    renewed = await broker.renew(leases, lease_seconds=LEASE_SECONDS)
    assert [(lease.stage, lease.task.id) for lease in renewed] == [
        (STAGE, "a1"),
        (STAGE, "a3"),
        (Stage.STORAGE, "a1"),
    ]


@pytest.mark.parametrize("claimed_again", [False, True], ids=["", "and claimed again"])
@pytest.mark.parametrize("ended_before", ENDINGS)
@pytest.mark.parametrize("attempted", ENDINGS[:4])
async def test_a_lease_that_ended_can_change_nothing(
    broker: Broker, clock: ManualClock, ended_before: EndLease, attempted: EndLease, claimed_again: bool
) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    await ended_before(broker, clock, lease)
    if claimed_again:
        await bring_back(broker, clock)
        assert (await claim_one(broker)).fence > lease.fence
    before = await broker.depth(STAGE)

    with pytest.raises(LeaseLost, match="'a'"):
        await attempted(broker, clock, lease)
    assert await broker.renew([lease], lease_seconds=LEASE_SECONDS) == []
    assert await broker.depth(STAGE) == before


async def bring_back(broker: Broker, clock: ManualClock) -> None:
    """Make task `a` ready, whatever became of it."""
    clock.advance(5)
    await broker.promote_due(STAGE)
    await broker.requeue_dead(STAGE, ["a"])
    await broker.enqueue(STAGE, [task("a")])


# --- delays -----------------------------------------------------------------------------------


async def test_a_delayed_task_is_ready_exactly_when_due(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await broker.retry_later(await claim_one(broker), delay_seconds=5, reason="busy")
    clock.advance(4.999)
    assert await broker.promote_due(STAGE) == 0
    assert await claim(broker) == []
    clock.advance(0.001)
    assert await broker.promote_due(STAGE) == 1
    assert await broker.promote_due(STAGE) == 0
    assert ids(await claim(broker)) == ["a"]


async def test_the_longest_due_are_promoted_first(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    for lease, delay_seconds in zip(await claim(broker), [3, 1, 2], strict=True):
        await broker.retry_later(lease, delay_seconds=delay_seconds, reason="busy")
    clock.advance(10)
    assert await broker.promote_due(STAGE, limit=2) == 2
    assert ids(await claim(broker)) == ["a2", "a3"]


async def test_a_due_time_from_before_a_cancel_promotes_nothing(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await broker.retry_later(await claim_one(broker), delay_seconds=5, reason="busy")
    await broker.cancel_job("job")
    await broker.enqueue(STAGE, [task("a")])
    await broker.retry_later(await claim_one(broker), delay_seconds=50, reason="busy")
    clock.advance(5)
    assert await broker.promote_due(STAGE) == 0
    clock.advance(45)
    assert await broker.promote_due(STAGE) == 1


# --- dead letters -----------------------------------------------------------------------------


async def test_a_dead_letter_keeps_the_task_and_says_why_and_when(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await broker.hand_back(await claim_one(broker))
    await claim_one(broker)
    await expire(broker, clock)
    await broker.dead_letter(await claim_one(broker), reason="not finite")

    [dead] = await broker.dead(STAGE)
    assert (dead.task, dead.attempt, dead.reason) == (task("a"), 2, "not finite")
    assert dead.died_at == clock.now()
    assert await claim(broker) == []


async def test_dead_letters_are_listed_oldest_first(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    for lease in reversed(await claim(broker)):
        clock.advance(1)
        await broker.dead_letter(lease, reason="poison")
    assert [dead.task.id for dead in await broker.dead(STAGE)] == ["a3", "a2", "a1"]
    assert [dead.task.id for dead in await broker.dead(STAGE, limit=2)] == ["a3", "a2"]
    assert await broker.dead(Stage.STORAGE) == []


async def test_requeued_dead_letters_line_up_as_new_with_attempts_reset(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 4))
    for lease in await claim(broker, 3):
        await broker.dead_letter(lease, reason="poison")

    assert await broker.requeue_dead(STAGE, ["a2", "a1", "a2", "a4", "unheard of"]) == 2
    assert [dead.task.id for dead in await broker.dead(STAGE)] == ["a3"]
    assert [(lease.task.id, lease.attempt) for lease in await claim(broker)] == [
        ("a4", 1),
        ("a2", 1),
        ("a1", 1),
    ]


# --- cancel -----------------------------------------------------------------------------------


async def test_cancel_drops_a_jobs_ready_and_delayed_tasks_in_every_stage(
    broker: Broker, clock: ManualClock
) -> None:
    for stage in Stage:
        await broker.enqueue(stage, [task("delayed"), task("ready"), task("other", job="other")])
        await broker.retry_later(await claim_one(broker, stage=stage), delay_seconds=5, reason="busy")

    assert await broker.cancel_job("job") == 2 * len(Stage)
    assert await broker.cancel_job("job") == 0
    clock.advance(5)
    for stage in Stage:
        assert await broker.promote_due(stage) == 0
        assert ids(await claim(broker, stage=stage)) == ["other"]


async def test_a_cancelled_jobs_leased_task_may_be_renewed_and_acked(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    assert await broker.cancel_job("job") == 0
    [renewed] = await broker.renew([lease], lease_seconds=LEASE_SECONDS)
    await broker.ack(renewed)
    assert await broker.depth(STAGE) == Depth(done=1, enqueued=1)


@pytest.mark.parametrize("end", [end_by_retry, end_by_hand_back, end_by_expiry])
async def test_a_cancelled_jobs_leased_task_does_not_come_back(
    broker: Broker, clock: ManualClock, end: EndLease
) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    await broker.cancel_job("job")
    await end(broker, clock, lease)
    assert await broker.depth(STAGE) == Depth(done=1, enqueued=1)


async def test_cancel_leaves_dead_letters_as_evidence(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("dead before"), task("dead after")])
    before, after = await claim(broker)
    await broker.dead_letter(before, reason="poison")
    await broker.cancel_job("job")
    await broker.dead_letter(after, reason="poison")
    assert [dead.task.id for dead in await broker.dead(STAGE)] == ["dead before", "dead after"]


async def test_a_task_offered_after_the_cancel_is_not_affected(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    await broker.cancel_job("job")
    await broker.enqueue(STAGE, [task("a"), task("b")])
    leases = await claim(broker)
    assert ids(leases) == ["a", "b"]
    for lease in leases:
        await broker.hand_back(lease)
    assert (await broker.depth(STAGE)).ready == 2


# --- depth ------------------------------------------------------------------------------------


async def test_depth_counts_tasks_and_tokens_by_state(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task(f"t{i}", cost=10**i) for i in range(6)])
    acked, dead, delayed, _, _ = await claim(broker, 5)
    await broker.ack(acked)
    await broker.dead_letter(dead, reason="poison")
    await broker.retry_later(delayed, delay_seconds=5, reason="busy")
    assert await broker.depth(STAGE) == Depth(
        ready=1,
        leased=2,
        delayed=1,
        dead=1,
        done=1,
        enqueued=6,
        ready_cost=100_000,
        leased_cost=11_000,
        delayed_cost=100,
    )
    assert await broker.depth(Stage.STORAGE) == Depth()


async def test_backlog_counts_one_tenants_ready_tasks_over_both_lanes(broker: Broker) -> None:
    await broker.enqueue(
        STAGE, [*tasks("a", 4), task("query", tenant="a", lane=Lane.INTERACTIVE), *tasks("b", 1)]
    )
    await broker.enqueue(Stage.STORAGE, tasks("a", 9))
    assert await broker.backlog(STAGE, "a") == 5
    assert await broker.backlog(STAGE, "unheard of") == 0

    leases = await claim(broker, 2)
    assert sorted(tenants(leases)) == ["a", "a"], "the query, then a before b"
    assert await broker.backlog(STAGE, "a") == 3, "leased tasks are not ready"
    await broker.hand_back(leases[0])
    assert await broker.backlog(STAGE, "a") == 4


# --- waiting ----------------------------------------------------------------------------------


async def test_waiting_returns_at_once_when_a_task_is_ready(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    assert await broker.wait_for_ready(STAGE, timeout_seconds=0)


async def test_waiting_ends_with_the_timeout(broker: Broker) -> None:
    await broker.enqueue(Stage.STORAGE, [task("elsewhere")])
    assert not await broker.wait_for_ready(STAGE, timeout_seconds=0)
    assert not await broker.wait_for_ready(STAGE, timeout_seconds=0.01)


async def test_a_tenant_at_its_cap_is_nothing_to_wake_up_for(broker: Broker) -> None:
    await broker.set_share("acme", TenantShare(max_in_flight=1))
    await broker.enqueue(STAGE, [task("a"), task("b")])
    await claim_one(broker)
    assert not await broker.wait_for_ready(STAGE, timeout_seconds=0)


async def enqueue_more(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.enqueue(STAGE, [task("other", tenant="other")])


async def promote(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.set_share("acme", TenantShare())
    await broker.retry_later(lease, delay_seconds=5, reason="busy")
    await claim(broker)
    clock.advance(5)
    await broker.promote_due(STAGE)


async def requeue(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.set_share("acme", TenantShare())
    await broker.dead_letter(lease, reason="poison")
    await claim(broker)
    await broker.requeue_dead(STAGE, ["a"])


async def lift_cap(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.set_share("acme", TenantShare(max_in_flight=2))


@pytest.mark.parametrize("act", [*ENDINGS, enqueue_more, promote, requeue, lift_cap])
async def test_a_waiter_wakes_when(broker: Broker, clock: ManualClock, act: EndLease) -> None:
    """Task `b` waits for the cap that `a` fills: whatever ends the lease of `a` frees `b` or `a` itself."""
    await broker.set_share("acme", TenantShare(max_in_flight=1))
    await broker.enqueue(STAGE, [task("a"), task("b")])
    lease = await claim_one(broker)
    async with asyncio.TaskGroup() as group:
        waiters = [
            group.create_task(broker.wait_for_ready(STAGE, timeout_seconds=LONG_WAIT_SECONDS))
            for _ in range(2)
        ]
        await asyncio.sleep(0)  # both wait now
        await act(broker, clock, lease)
    assert [waiter.result() for waiter in waiters] == [True, True]
    assert await claim(broker)


# --- the memory's name -------------------------------------------------------------------------


async def test_the_epoch_stays_while_nothing_is_lost(broker: Broker) -> None:
    epoch = await broker.epoch()
    assert epoch
    await broker.enqueue(STAGE, [task("a")])
    await broker.ack(await claim_one(broker))
    assert await broker.epoch() == epoch


# --- arguments and the end --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: task("a", cost=0),
        lambda: task("a", cost=MAX_COST + 1),
        lambda: task("a", priority=-1),
        lambda: task("a", priority=101),
        lambda: task(""),
        lambda: task("a", tenant=""),
        lambda: task("a", job=""),
        lambda: TenantShare(weight=MIN_WEIGHT / 2),
        lambda: TenantShare(weight=MAX_WEIGHT * 2),
        lambda: TenantShare(weight=float("nan")),
        lambda: TenantShare(max_in_flight=0),
    ],
)
def test_a_message_with_an_impossible_value_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest, match="must"):
        make()


@pytest.mark.parametrize("lease_seconds", [0, -1, float("nan")])
async def test_a_lease_of_no_length_is_refused(broker: Broker, lease_seconds: float) -> None:
    await broker.enqueue(STAGE, tasks("a", 2))
    lease = await claim_one(broker)
    with pytest.raises(InvalidRequest, match="lease_seconds"):
        await broker.claim(STAGE, worker="w1", max_tasks=1, max_cost=1, lease_seconds=lease_seconds)
    with pytest.raises(InvalidRequest, match="lease_seconds"):
        await broker.renew([lease], lease_seconds=lease_seconds)
    assert (await broker.depth(STAGE)).ready == 1


@pytest.mark.parametrize("delay_seconds", [-0.001, float("nan")])
async def test_a_negative_delay_is_refused_and_the_lease_holds(broker: Broker, delay_seconds: float) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    with pytest.raises(InvalidRequest, match="delay_seconds"):
        await broker.retry_later(lease, delay_seconds=delay_seconds, reason="busy")
    await broker.ack(lease)


async def test_counts_below_one_are_refused(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    with pytest.raises(InvalidRequest, match="max_tasks"):
        await claim(broker, 0)
    with pytest.raises(InvalidRequest, match="max_cost"):
        await claim(broker, max_cost=0)
    for refused in (broker.dead, broker.reap_expired, broker.promote_due):
        with pytest.raises(InvalidRequest, match="limit"):
            await refused(STAGE, limit=0)
    assert ids(await claim(broker)) == ["a"]


async def test_a_closed_broker_refuses_everything_but_close(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    await broker.close()
    await broker.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: broker.set_share("acme", TenantShare()),
        lambda: broker.enqueue(STAGE, [task("b")]),
        lambda: claim(broker),
        lambda: broker.renew([lease], lease_seconds=1),
        lambda: broker.ack(lease),
        lambda: broker.retry_later(lease, delay_seconds=0, reason="busy"),
        lambda: broker.hand_back(lease),
        lambda: broker.dead_letter(lease, reason="poison"),
        lambda: broker.dead(STAGE),
        lambda: broker.requeue_dead(STAGE, ["a"]),
        lambda: broker.reap_expired(STAGE),
        lambda: broker.promote_due(STAGE),
        lambda: broker.cancel_job("job"),
        lambda: broker.depth(STAGE),
        lambda: broker.backlog(STAGE, "acme"),
        lambda: broker.wait_for_ready(STAGE, timeout_seconds=0),
        lambda: broker.epoch(),
    ]
    for call in calls:
        with pytest.raises(BrokerUnavailable):
            await call()


async def test_closing_wakes_whoever_waits(broker: Broker) -> None:
    waiter = asyncio.ensure_future(broker.wait_for_ready(STAGE, timeout_seconds=LONG_WAIT_SECONDS))
    await asyncio.sleep(0)
    await broker.close()
    with pytest.raises(BrokerUnavailable):
        await waiter
