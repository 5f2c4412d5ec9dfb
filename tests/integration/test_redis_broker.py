"""RedisBroker against real servers: what several processes see, in which order, and what it leaves there.

Which servers are refused, and which faults heal, is in `test_redis_faults.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import pytest
import redis

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable
from embedfleet.queue.broker import MAX_COST, Broker, Lane, Task, TenantShare
from embedfleet.queue.fair_queue import stride
from embedfleet.queue.keys import KEY_TYPES, answers_key, stage_key
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.hangs import HANG_SECONDS
from support.redis_brokers import LEASE_SECONDS, NEVER, STAGE, claim, make_tasks, opened
from support.redis_server import RedisServer, redis_settings

LANES = [*Lane]


@pytest.fixture
async def broker(redis_server: RedisServer) -> AsyncIterator[RedisBroker]:
    async with opened(redis_server) as broker:
        yield broker


# --- many callers -------------------------------------------------------------------------------


async def test_more_callers_than_connections_wait_their_turn(redis_server: RedisServer) -> None:
    broker = await RedisBroker.open(redis_settings(redis_server.url, max_connections=3))
    await asyncio.gather(*(broker.enqueue(STAGE, make_tasks(1, job=str(n))) for n in range(64)))
    assert (await broker.depth(STAGE)).ready == 64
    with redis_server.client() as client:
        assert len(client.client_list(_type="normal")) <= 4
    await broker.close()


async def test_two_brokers_never_get_the_same_task(redis_server: RedisServer) -> None:
    async with opened(redis_server) as one, opened(redis_server) as other:
        await one.enqueue(STAGE, make_tasks(500))
        taken: list[str] = []

        async def take(broker: RedisBroker) -> None:
            while leases := await claim(broker, 7):
                taken.extend(lease.task.id for lease in leases)
                await broker.ack(leases)

        await asyncio.gather(*(take(broker) for broker in (one, other) for _ in range(4)))
        assert Counter(taken) == Counter(task.id for task in make_tasks(500))


async def test_of_many_who_would_end_a_lease_one_does(broker: RedisBroker) -> None:
    await broker.enqueue(STAGE, make_tasks(1))
    [lease] = await claim(broker)
    outcomes = await asyncio.gather(*(broker.ack([lease]) for _ in range(10)))
    assert Counter(len(lost) for lost in outcomes) == {0: 1, 1: 9}


@pytest.mark.parametrize(("leases", "calls"), [(8, 1), (1_000, 1), (1_001, 2)])
async def test_leases_that_end_together_travel_together(
    broker: RedisBroker, redis_server: RedisServer, leases: int, calls: int
) -> None:
    await broker.enqueue(STAGE, make_tasks(leases))
    with redis_server.client() as client:
        for end in (broker.hand_back, broker.ack):
            held = [*await claim(broker), *await claim(broker)]
            client.config_resetstat()
            assert await end([]) == await end(held) == []
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == calls
    assert (await broker.depth(STAGE)).done == leases


async def test_acks_under_way_fail_when_the_broker_is_closed(redis_server: RedisServer) -> None:
    async with opened(redis_server) as broker:
        await broker.enqueue(STAGE, make_tasks(8))
        acks = [asyncio.create_task(broker.ack([lease])) for lease in await claim(broker)]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*acks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {list, BrokerUnavailable}


async def test_large_calls_are_made_in_parts(broker: RedisBroker) -> None:
    tasks = make_tasks(2_500)
    assert await broker.enqueue(STAGE, tasks) == 2_500
    leases = [lease for _ in range(3) for lease in await claim(broker, 10_000)]
    assert [lease.task.id for lease in leases] == [task.id for task in tasks]
    assert len(await broker.renew(leases, lease_seconds=LEASE_SECONDS)) == 2_500
    assert await broker.hand_back(leases[::2]) == []
    assert await broker.cancel_job("job") == 1_250
    for lease in leases[1:250:2]:
        await broker.dead_letter(lease, reason="poison")
    assert len(await broker.dead(STAGE, limit=10_000)) == 125
    assert await broker.requeue_dead(STAGE, [task.id for task in tasks]) == 125


async def test_a_payload_comes_back_byte_for_byte(broker: RedisBroker) -> None:
    payloads = [b"", bytes(range(256)), random.Random(0).randbytes(9 * 2**20)]
    tasks = [Task(str(n), "acme", "job", 1, payload) for n, payload in enumerate(payloads)]
    await broker.enqueue(STAGE, tasks)
    assert [lease.task for lease in await claim(broker)] == tasks


async def test_prefixes_keep_fleets_apart(redis_server: RedisServer) -> None:
    async with opened(redis_server) as broker:
        other = await RedisBroker.open(redis_settings(redis_server.url, key_prefix="other"))
        await broker.enqueue(STAGE, make_tasks(1))
        assert await claim(other) == []
        assert len(await claim(broker)) == 1
        await other.close()


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "costs", [[MAX_COST // 2, MAX_COST], [MAX_COST // 2 - 1, MAX_COST - 1, MAX_COST - 3]]
)
async def test_the_order_is_that_of_the_reference_when_virtual_time_begins_again(
    redis_server: RedisServer, clock: ManualClock, costs: list[int]
) -> None:
    """The dearest tasks at the lowest weight pass the rebase every few claims. Few costs make many ties;
    odd ones at an odd price would be rounded beyond 2**53."""
    rng = random.Random(1)
    tasks = [
        Task(str(n), rng.choice("abcd"), "job", rng.choice(costs), b"", lane=rng.choice(LANES))
        for n in range(600)
    ]
    async with opened(redis_server, clock=clock) as broker:
        assert await served(broker, tasks) == await served(MemoryBroker(clock=clock), tasks)


async def served(broker: Broker, tasks: list[Task]) -> list[str]:
    """The ids in order of service, tenants waiting all the while."""
    odd_price = TenantShare(weight=25_200 / 2_519_999)
    assert stride(odd_price.weight) == 2_519_999
    for tenant in "abcd":
        await broker.set_shares({tenant: odd_price})
    await broker.enqueue(STAGE, tasks)
    order: list[str] = []
    while leases := await broker.claim(
        STAGE, worker="w", max_tasks=9, max_cost=9 * MAX_COST, lease_seconds=1
    ):
        order += [lease.task.id for lease in leases]
    return order


async def test_a_cancel_in_parts_does_not_touch_what_is_offered_meanwhile(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    scripts = broker._stages[STAGE].of(0)
    await broker.enqueue(STAGE, make_tasks(4))
    dropped, after, until = await scripts.cancel_job("job", "", None, 2)
    await broker.enqueue(STAGE, [Task("zz offered after", "acme", "job", 1, b"")])
    more, after, until = await scripts.cancel_job("job", after, until, 2)
    rest, after, _ = await scripts.cancel_job("job", after, until, 2)
    assert (dropped, more, rest, after) == (2, 2, 0, "")
    assert [lease.task.id for lease in await claim(broker)] == ["zz offered after"]


# --- waking -------------------------------------------------------------------------------------


async def test_whoever_waits_is_told_by_another_process(redis_server: RedisServer) -> None:
    async with opened(redis_server, look_again_seconds=NEVER) as waiter, opened(redis_server) as other:
        with redis_server.client() as client:
            await listening(waiter, client)
            await woken_by(waiter, client, lambda: other.enqueue(STAGE, make_tasks(1)))
            [lease] = await claim(other)
            await woken_by(waiter, client, lambda: other.hand_back([lease]))
            [lease] = await claim(other)
            await other.retry_later(lease, delay_seconds=0, reason="busy")
            await woken_by(waiter, client, lambda: other.promote_due(STAGE))
            [lease] = await claim(other)
            await other.dead_letter(lease, reason="poison")
            await woken_by(waiter, client, lambda: other.requeue_dead(STAGE, [lease.task.id]))
            await claim(other)
            await woken_by(waiter, client, lambda: other.enqueue(STAGE, make_tasks(1, job="second")))


async def listening(waiter: RedisBroker, client: redis.Redis) -> None:
    """Until the waiter has heard that it is subscribed, so that nothing but a message can wake it."""
    await waiter.wait_for_ready(STAGE, timeout_seconds=0)
    channels = [stage_key("embedfleet", stage, "meta") for stage in Stage]
    async with asyncio.timeout(HANG_SECONDS):
        # Redis sends no event to others when a client subscribes: it counts the subscribers.
        while any(count == 0 for _, count in client.pubsub_numsub(*channels)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        ring = waiter._doorbell.next_ring(stage_key("embedfleet", STAGE, "meta"))
        client.publish(stage_key("embedfleet", STAGE, "meta"), "")
        await ring


async def woken_by(waiter: RedisBroker, client: redis.Redis, act: Callable[[], Awaitable[object]]) -> None:
    def looks() -> int:
        return int(client.info("commandstats")["cmdstat_exists"]["calls"])

    before = looks()
    waiting = asyncio.create_task(waiter.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS))
    async with asyncio.timeout(HANG_SECONDS):
        # That the waiter has looked, and found nothing, shows only in the server's count of commands.
        while looks() == before:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert not waiting.done()
    await act()
    assert await waiting


async def test_a_message_that_was_lost_costs_a_moment(redis_server: RedisServer) -> None:
    async with opened(redis_server, look_again_seconds=0.05) as waiter, opened(redis_server) as other:
        with redis_server.client() as client:
            await listening(waiter, client)
            waiting = asyncio.create_task(waiter.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS))
            await other.enqueue(STAGE, make_tasks(1))
            client.client_kill_filter(_type="pubsub")
            assert await waiting


async def test_a_subscription_that_broke_is_made_again(redis_server: RedisServer) -> None:
    async with opened(redis_server, look_again_seconds=NEVER) as waiter, opened(redis_server) as other:
        with redis_server.client() as client:
            await listening(waiter, client)
            client.client_kill_filter(_type="pubsub")
            await listening(waiter, client)
            await woken_by(waiter, client, lambda: other.enqueue(STAGE, make_tasks(1)))


async def test_a_backlog_is_not_announced_task_by_task(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_resetstat()
        for number in range(20):
            await broker.enqueue(STAGE, make_tasks(5, job=str(number), tenant=f"t{number % 3}"))
        await broker.claim(
            STAGE,
            worker="w",
            max_tasks=50,
            max_cost=MAX_COST,
            lease_seconds=LEASE_SECONDS,
            passing_over=["t0", "t1"],
        )
        await claim(broker, 50)
        assert client.info("commandstats")["cmdstat_publish"]["calls"] == 1


# --- what is left -------------------------------------------------------------------------------


@pytest.fixture
def lean_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_a_drained_queue_leaves_counters_only(lean_server: RedisServer) -> None:
    async with opened(lean_server) as broker:
        for round_number in range(3):
            for number in range(40):
                tenant = f"t{round_number}-{number}"
                await broker.enqueue(STAGE, make_tasks(3, tenant=tenant, job=f"{tenant}-job"))
            await broker.cancel_job("t0-0-job")
            while leases := await claim(broker, 17):
                await broker.ack(leases)
        await broker.set_shares({"acme": TenantShare(weight=2)})
        await broker.set_shares({"acme": TenantShare()})
        depth = await broker.depth(STAGE)
    assert (depth.ready, depth.leased, depth.done) == (0, 0, 360)
    with lean_server.client() as client:
        assert [key.decode() for key in client.scan_iter()] == [stage_key("embedfleet", STAGE, "meta")]
        assert client.hlen(stage_key("embedfleet", STAGE, "meta")) < 16
        clients = client.client_list()
    assert len(clients) == 1, "the broker left a connection"


async def test_every_key_is_one_that_is_declared(broker: RedisBroker, redis_server: RedisServer) -> None:
    await broker.set_shares({"b": TenantShare(weight=3)})
    for lane in Lane:
        for tenant in "abc":
            tasks = [Task(f"{lane}{tenant}{n}", tenant, "job", 10, b"p", lane=lane) for n in range(4)]
            await broker.enqueue(STAGE, tasks)
    delayed, dead, *_ = await claim(broker, 9)
    await broker.retry_later(delayed, delay_seconds=NEVER, reason="busy")
    await broker.dead_letter(dead, reason="poison")
    await broker.answer(STAGE, "some-process", [b"answer"], keep_seconds=NEVER)
    declared = {
        stage_key("embedfleet", stage, name): kind for stage in Stage for name, kind in KEY_TYPES.items()
    }
    declared[answers_key("embedfleet", STAGE, "some-process")] = KEY_TYPES["answers"]
    with redis_server.client() as client:
        found = {key.decode(): client.type(key).decode() for key in client.scan_iter()}
    assert found.items() <= declared.items()
    assert len([key for key in found if STAGE.value in key]) >= len(KEY_TYPES) - 2, "all but the debts"


async def test_what_a_release_with_caps_left_in_redis_does_no_harm(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    """Shares with a cap, a count of tasks in flight, a tenant at its cap out of its lane, and no counts of
    what is ready. All of it heals when the leader sets the shares again, or when the tenants have no work."""
    for tenant in "abc":
        await broker.enqueue(STAGE, make_tasks(4, tenant=tenant, job=f"{tenant}-job"))
    key = partial(stage_key, "embedfleet", STAGE)
    with redis_server.client() as client:
        client.delete(key("ready_costs"))
        client.hdel(key("meta"), "ready_weight")
        client.hset(key("shares"), mapping={"a": "25200 4", "b": "8400 16", "c": "3150 "})
        client.hset(key("in_flight"), mapping={"a": 4, "b": 2})
        client.zrem(key("bulk"), "a")

    assert await broker.crowded(STAGE, "abc", max_tasks=1, max_cost=10**9) == set(), "unknown yet"
    await broker.enqueue(STAGE, make_tasks(1, tenant="b", job="more"))
    first = Counter(lease.task.tenant for lease in await claim(broker, 1))
    for tenant, weight in {"a": 1, "b": 3, "c": 8}.items():
        await broker.set_shares({tenant: TenantShare(weight)})
    assert await broker.crowded(STAGE, "abc", max_tasks=48, max_cost=10**9) == {"a"}, "4 of 48, 12, 32"

    leases = await claim(broker)
    assert Counter(lease.task.tenant for lease in leases) == Counter(a=4, b=5, c=4) - first
    await broker.hand_back(leases)
    assert await broker.crowded(STAGE, "abc", max_tasks=48, max_cost=10**9) == {"a"}
    await broker.cancel_job("a-job")
    assert (await broker._stages[STAGE].crowded(["a", "b", "c"]))[0] == 11_000_000
    with redis_server.client() as client:
        assert client.type(key("in_flight")) == b"hash", "it is left alone"


async def test_tenants_who_never_come_back_are_forgotten(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    """A busy period that never ends must not remember everybody it ever served."""
    await broker.enqueue(STAGE, [Task(f"busy{n}", "busy", "job", 10, b"") for n in range(1_000)])
    for number in range(200):
        await broker.enqueue(STAGE, [Task(f"once{number}", f"once{number}", "job", 10, b"")])
        await claim(broker, 4)
    with redis_server.client() as client:
        assert client.zcard(stage_key("embedfleet", STAGE, "bulk_debts")) < 10
