"""What every broker must promise of counts, waiting and the end: as `embedfleet.queue.broker` says it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable, InvalidRequest
from embedfleet.queue.broker import (
    MAX_COST,
    MAX_WEIGHT,
    MIN_WEIGHT,
    Broker,
    Depth,
    Lane,
    Lease,
    QueuedTask,
    TaskState,
    TenantShare,
)
from embedfleet.queue_schemas import Stage
from support.brokers import (
    STAGE,
    EndLease,
    claim,
    claim_one,
    end_by_expiry,
    end_by_hand_back,
    ids,
    task,
    tasks,
)
from support.hangs import HANG_SECONDS

# --- depth ------------------------------------------------------------------------------------


@pytest.mark.of_one_shard
async def test_depth_counts_tasks_and_tokens_by_state(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task(f"t{i}", cost=10**i) for i in range(6)])
    acked, dead, delayed, _, _ = await claim(broker, 5)
    assert await broker.ack([acked]) == []
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


@pytest.mark.of_one_shard
async def test_the_tasks_of_a_job_say_where_they_are_what_goes_first_and_why_a_try_failed(
    broker: Broker, clock: ManualClock
) -> None:
    mine = [task("a"), task("b", priority=90), task("c"), task("d")]
    others = [
        task("x", job="other"),
        task("y", job="other", lane=Lane.INTERACTIVE),
        task("z", tenant="t2", job="other"),
    ]
    await broker.enqueue(STAGE, [others[0], *mine, *others[1:]])
    leases = {lease.task.id: lease for lease in await claim(broker)}
    await broker.hand_back([leases[name] for name in ("x", "y", "z", "b", "c")])
    await broker.retry_later(leases["d"], delay_seconds=5, reason="the model server is away: 503")
    clock.advance(2)
    assert await broker.tasks_of(STAGE, "job") == [
        QueuedTask("a", TaskState.LEASED, 1, ""),
        QueuedTask("b", TaskState.READY, 0, "", ahead=0),
        QueuedTask("c", TaskState.READY, 0, "", ahead=2),
        QueuedTask("d", TaskState.DELAYED, 1, "the model server is away: 503", seconds=3.0),
    ]
    assert [one.id for one in await broker.tasks_of(STAGE, "job", limit=2)] == ["a", "b"]
    assert await broker.tasks_of(Stage.STORAGE, "job") == []
    clock.advance(9)
    assert (await broker.tasks_of(STAGE, "job"))[-1].seconds == 0.0, "due, and not promoted yet"
    await broker.promote_due(STAGE)
    (late,) = (one for one in await broker.tasks_of(STAGE, "job") if one.id == "d")
    assert late == QueuedTask("d", TaskState.READY, 1, "the model server is away: 503", ahead=3)


@pytest.mark.of_one_shard
async def test_a_job_is_known_while_a_task_of_it_is_ready_leased_or_delayed_in_any_stage(
    broker: Broker, clock: ManualClock
) -> None:
    for stage in Stage:
        await broker.enqueue(stage, [task("a", job=f"of {stage}"), task("b", job=f"of {stage}!")])
        job = [f"of {stage}"]
        assert await broker.known_jobs([*job, "of", "unheard of"]) == set(job), "ready"
        lease, other = await claim(broker, stage=stage)
        assert await broker.known_jobs(job) == set(job), "leased"
        await broker.retry_later(lease, delay_seconds=5, reason="busy")
        assert await broker.known_jobs(job) == set(job), "delayed"
        clock.advance(5)
        await broker.promote_due(stage)
        assert await broker.ack([await claim_one(broker, stage=stage)]) == []
        assert await broker.known_jobs([*job, f"of {stage}!"]) == {f"of {stage}!"}, "acked"
        await broker.dead_letter(other, reason="poison")
        assert await broker.known_jobs([f"of {stage}!"]) == set(), "dead"
        assert await broker.requeue_dead(stage, ["b"]) == 1
        assert await broker.known_jobs([f"of {stage}!"]) == {f"of {stage}!"}
        await broker.cancel_job(f"of {stage}!")
        assert await broker.known_jobs([f"of {stage}!"]) == set(), "cancelled"


async def test_any_number_of_jobs_may_be_asked_for(broker: Broker) -> None:
    await broker.enqueue(Stage.STORAGE, [task(f"t{i}", job=f"j{i}") for i in range(0, 2_500, 2)])
    known = await broker.known_jobs([f"j{i}" for i in range(2_500)])
    assert known == {f"j{i}" for i in range(0, 2_500, 2)}
    assert await broker.known_jobs([]) == set()


# --- room -------------------------------------------------------------------------------------


async def crowded(broker: Broker, *tenants: str, max_tasks: int = 10**6, max_cost: int = 10**9) -> set[str]:
    return await broker.crowded(STAGE, tenants, max_tasks=max_tasks, max_cost=max_cost)


@pytest.mark.of_one_shard
async def test_a_tenant_alone_may_fill_all_of_a_stage(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 4, cost=25))
    assert await crowded(broker, "a", max_tasks=5) == set()
    assert await crowded(broker, "a", max_tasks=4) == {"a"}
    assert await crowded(broker, "a", max_cost=101) == set()
    assert await crowded(broker, "a", max_cost=100) == {"a"}


@pytest.mark.of_one_shard
async def test_tenants_share_the_room_of_a_stage_by_weight(broker: Broker) -> None:
    await broker.set_shares({"b": TenantShare(weight=3)})
    await broker.enqueue(STAGE, [*tasks("a", 2), *tasks("b", 5)])
    assert await crowded(broker, "a", "b", max_tasks=8) == {"a"}, "two of eight, and six of eight"
    await broker.enqueue(STAGE, [task("b6", tenant="b")])
    assert await crowded(broker, "a", "b", max_tasks=8) == {"a", "b"}
    assert await crowded(broker, "b", max_tasks=8) == {"b"}, "what one asks for does not change the shares"
    assert await crowded(broker, "a", "b", max_cost=81) == set()
    assert await crowded(broker, "a", "b", max_cost=80) == {"a", "b"}


async def test_a_tenant_with_nothing_ready_has_room_and_takes_none(broker: Broker) -> None:
    await broker.set_shares({"heavy": TenantShare(weight=100)})
    await broker.enqueue(STAGE, [*tasks("a", 3), task("gone", tenant="heavy")])
    assert await crowded(broker, "a", "heavy", "unheard of", max_tasks=4) == {"a"}
    [lease] = await claim(broker, passing_over=["a"])
    assert (await crowded(broker, "a", "heavy", "unheard of", max_tasks=4)) == set()
    await broker.hand_back([lease])
    assert await crowded(broker, "a", "heavy", "unheard of", max_tasks=4) == {"a"}
    assert await crowded(broker, "unheard of", max_tasks=1, max_cost=1) == set()
    assert await crowded(broker) == set()


@pytest.mark.of_one_shard
async def test_room_is_counted_over_both_lanes_of_one_stage(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("query", tenant="a", lane=Lane.INTERACTIVE), *tasks("a", 2)])
    await broker.enqueue(Stage.STORAGE, tasks("a", 9))
    assert await crowded(broker, "a", max_tasks=4) == set()
    assert await crowded(broker, "a", max_tasks=3) == {"a"}
    await claim(broker, 2)
    assert await crowded(broker, "a", max_tasks=2) == set(), "leased tasks are not ready"
    assert await crowded(broker, "a", max_tasks=1) == {"a"}
    assert await crowded(broker, "a", max_cost=11) == set()
    assert await crowded(broker, "a", max_cost=10) == {"a"}, "one lane has run out, and the other has not"


@pytest.mark.of_one_shard
async def test_a_new_weight_counts_for_the_room_at_once(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 4), *tasks("b", 1)])
    assert await crowded(broker, "a", max_tasks=8) == {"a"}
    await broker.set_shares({"a": TenantShare(weight=3)})
    assert await crowded(broker, "a", max_tasks=8) == set()
    await broker.set_shares({"b": TenantShare(weight=3)})
    assert await crowded(broker, "a", max_tasks=8) == {"a"}
    await broker.set_shares({"a": TenantShare(weight=100)})
    await broker.set_shares({"a": TenantShare()})
    assert await crowded(broker, "a", "b", max_tasks=16) == {"a"}


@pytest.mark.of_one_shard
async def test_tenants_that_fill_their_room_queue_in_proportion_to_their_weights(broker: Broker) -> None:
    """Each offers a task whenever it is not crowded, while the tasks are served in fair order."""
    weights, costs = {"a": 1.0, "b": 2.0, "c": 5.0}, {"a": 7, "b": 90, "c": 30}
    for tenant, weight in weights.items():
        await broker.set_shares({tenant: TenantShare(weight=weight)})
    room, waiting, offered = 8_000, dict.fromkeys(weights, 0), 0
    for _ in range(40):
        while free := set(weights) - await crowded(broker, *weights, max_cost=room):
            for tenant in free:
                offered += 1
                await broker.enqueue(STAGE, [task(f"t{offered}", tenant=tenant, cost=costs[tenant])])
                waiting[tenant] += costs[tenant]
        for tenant, weight in weights.items():
            share = room * weight / sum(weights.values())
            assert share <= waiting[tenant] <= share + max(costs.values())
        for lease in await claim(broker, max_cost=1_000):
            waiting[lease.task.tenant] -= lease.task.cost
            await broker.ack([lease])


@pytest.mark.of_one_shard
async def test_any_number_of_tenants_may_be_asked_for(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task(f"t{i}", tenant=f"t{i}") for i in range(0, 2_500, 2)])
    await broker.enqueue(STAGE, [task("more", tenant="t8")])
    every = [f"t{i}" for i in range(2_500)]
    assert await crowded(broker, *every, max_tasks=2 * 1_250) == {"t8"}
    assert await crowded(broker, *every, max_tasks=1_250) == {f"t{i}" for i in range(0, 2_500, 2)}


# --- waiting ----------------------------------------------------------------------------------


async def test_waiting_returns_at_once_when_a_task_is_ready(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    assert await broker.wait_for_ready(STAGE, timeout_seconds=0)


async def test_waiting_ends_with_the_timeout(broker: Broker) -> None:
    await broker.enqueue(Stage.STORAGE, [task("elsewhere")])
    assert not await broker.wait_for_ready(STAGE, timeout_seconds=0)
    assert not await broker.wait_for_ready(STAGE, timeout_seconds=0.01)


async def enqueue_more(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.enqueue(STAGE, [task("other", tenant="other")])


async def promote(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.retry_later(lease, delay_seconds=5, reason="busy")
    clock.advance(5)
    await broker.promote_due(STAGE)


async def requeue(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.dead_letter(lease, reason="poison")
    await broker.requeue_dead(STAGE, ["a"])


@pytest.mark.parametrize("act", [enqueue_more, promote, requeue, end_by_hand_back, end_by_expiry])
async def test_a_waiter_wakes_when(broker: Broker, clock: ManualClock, act: EndLease) -> None:
    """No task is ready: the only one is leased. Each act makes one ready."""
    await broker.enqueue(STAGE, [task("a")])
    lease = await claim_one(broker)
    async with asyncio.TaskGroup() as group:
        waiters = [
            group.create_task(broker.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS)) for _ in range(2)
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
    assert await broker.ack([await claim_one(broker)]) == []
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
    assert await broker.ack([lease]) == []


async def test_counts_below_one_are_refused(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a")])
    with pytest.raises(InvalidRequest, match="max_tasks"):
        await claim(broker, 0)
    with pytest.raises(InvalidRequest, match="max_cost"):
        await claim(broker, max_cost=0)
    with pytest.raises(InvalidRequest, match="max_tasks"):
        await broker.crowded(STAGE, ["acme"], max_tasks=0, max_cost=1)
    with pytest.raises(InvalidRequest, match="max_cost"):
        await broker.crowded(STAGE, ["acme"], max_tasks=1, max_cost=0)
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
        lambda: broker.set_shares({"acme": TenantShare()}),
        lambda: broker.enqueue(STAGE, [task("b")]),
        lambda: claim(broker),
        lambda: broker.renew([lease], lease_seconds=1),
        lambda: broker.ack([lease]),
        lambda: broker.retry_later(lease, delay_seconds=0, reason="busy"),
        lambda: broker.hand_back([lease]),
        lambda: broker.dead_letter(lease, reason="poison"),
        lambda: broker.dead(STAGE),
        lambda: broker.requeue_dead(STAGE, ["a"]),
        lambda: broker.drop_dead(STAGE, ["a"]),
        lambda: broker.known_jobs(["job"]),
        lambda: broker.reap_expired(STAGE),
        lambda: broker.promote_due(STAGE),
        lambda: broker.cancel_job("job"),
        lambda: broker.depth(STAGE),
        lambda: broker.crowded(STAGE, ["acme"], max_tasks=1, max_cost=1),
        lambda: broker.wait_for_ready(STAGE, timeout_seconds=0),
        lambda: broker.answer(STAGE, broker.mailbox, [b"a"], keep_seconds=1),
        lambda: broker.take_answers(STAGE, timeout_seconds=0),
        lambda: broker.epoch(),
        lambda: broker.check_writes(Stage.CHUNKING),
        lambda: broker.mark(),
        lambda: broker.claim_mark("ours"),
    ]
    for call in calls:
        with pytest.raises(BrokerUnavailable):
            await call()


async def test_closing_wakes_whoever_waits(broker: Broker) -> None:
    waiter = asyncio.ensure_future(broker.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS))
    await asyncio.sleep(0)
    await broker.close()
    with pytest.raises(BrokerUnavailable):
        await waiter


async def test_a_mark_is_set_once_and_replaced_only_by_who_has_read_it(broker: Broker) -> None:
    assert await broker.mark() is None
    assert await broker.claim_mark("ours") == "ours"
    assert await broker.claim_mark("theirs") == "ours"
    assert await broker.claim_mark("theirs", replacing="another") == "ours"
    assert await broker.mark() == "ours"
    assert await broker.claim_mark("new", replacing="ours") == "new"
    assert await broker.mark() == "new"


async def test_to_try_a_write_changes_nothing(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("acme", 3))
    before = await broker.depth(STAGE)
    for stage in Stage:
        await broker.check_writes(stage)
    assert await broker.depth(STAGE) == before
    assert len(await claim(broker, 3)) == 3
