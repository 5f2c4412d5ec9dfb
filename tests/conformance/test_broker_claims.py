"""What every broker must promise of offering and claiming: the sentences of `embedfleet.queue.broker`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import (
    MAX_COST,
    Broker,
    Depth,
    Lane,
    Lease,
    Task,
    TenantShare,
)
from embedfleet.queue_schemas import Stage
from support.brokers import (
    BURST,
    LEASE_SECONDS,
    STAGE,
    claim,
    claim_all,
    claim_one,
    expire,
    ids,
    task,
    tasks,
    tenants,
)

# --- enqueue ----------------------------------------------------------------------------------


@pytest.mark.of_one_shard
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
    assert await broker.ack([await claim_one(broker)]) == []


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

    assert await broker.ack([await claim_one(broker, stage=Stage.EMBEDDING)]) == []
    lease = await claim_one(broker, stage=Stage.STORAGE)
    assert (lease.stage, lease.task) == (Stage.STORAGE, task("a"))


# --- claim: how much --------------------------------------------------------------------------


async def test_a_claim_with_nothing_ready_is_empty(broker: Broker) -> None:
    assert await claim(broker) == []


@pytest.mark.of_one_shard
async def test_a_claim_takes_no_more_tasks_than_asked_for(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 5))
    assert ids(await claim(broker, 3)) == ["a1", "a2", "a3"]
    assert ids(await claim(broker, 3)) == ["a4", "a5"]


@pytest.mark.of_one_shard
async def test_a_claim_ends_at_the_first_task_that_does_not_fit(broker: Broker) -> None:
    await broker.enqueue(
        STAGE, [task("a", cost=40), task("b", cost=60), task("c", cost=61), task("d", cost=1)]
    )
    assert ids(await claim(broker, max_cost=100)) == ["a", "b"]
    assert ids(await claim(broker, max_cost=61)) == ["c"], "what did not fit is first the next time"


@pytest.mark.of_one_shard
async def test_the_first_task_is_given_whatever_it_costs(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("huge", cost=MAX_COST), task("small", cost=1)])
    assert ids(await claim(broker, max_cost=1)) == ["huge"]


@pytest.mark.of_one_shard
async def test_a_task_that_was_delivered_before_is_claimed_alone_and_keeps_its_place(
    broker: Broker, clock: ManualClock
) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    await claim(broker, 2)
    assert await expire(broker, clock) == 2
    await broker.enqueue(STAGE, [task("first", tenant="a", priority=100), task("last", tenant="a")])

    assert ids(await claim(broker)) == ["first"], "a claim ends before it"
    assert ids(await claim(broker)) == ["a1"]
    assert ids(await claim(broker)) == ["a2"]
    assert ids(await claim(broker)) == ["a3", "last"]


@pytest.mark.of_one_shard
@pytest.mark.parametrize("counted", [True, False])
async def test_only_a_delivery_that_counts_makes_a_task_claimed_alone(broker: Broker, counted: bool) -> None:
    await broker.enqueue(STAGE, tasks("a", 2))
    first, second = await claim(broker)
    await broker.retry_later(first, delay_seconds=0, reason="busy", counted=counted)
    await broker.hand_back([second])
    await broker.promote_due(STAGE)
    assert ids(await claim(broker)) == (["a1"] if counted else ["a1", "a2"])


@pytest.mark.of_one_shard
async def test_a_task_that_asks_for_it_is_claimed_alone_from_its_first_delivery_on(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a"), task("part", alone=True), task("b"), task("c")])
    assert [ids(await claim(broker)) for _ in range(3)] == [["a"], ["part"], ["b", "c"]]


@pytest.mark.of_one_shard
async def test_a_lease_carries_the_task_as_it_was_offered(broker: Broker, clock: ManualClock) -> None:
    offered = task("a", tenant="acme", job="j1", cost=7, priority=3, lane=Lane.INTERACTIVE, alone=True)
    await broker.enqueue(STAGE, [offered])
    lease = await claim_one(broker)
    expires_at = clock.now() + LEASE_SECONDS
    assert lease == Lease(STAGE, offered, lease.fence, attempt=1, expires_at=expires_at, shard=lease.shard)


# --- claim: order inside a tenant -------------------------------------------------------------


@pytest.mark.of_one_shard
async def test_a_tenants_higher_priority_goes_first_then_first_in_first_out(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("low", priority=0), task("mid1"), task("mid2")])
    await broker.enqueue(STAGE, [task("high", priority=100), task("mid3")])
    assert ids(await claim(broker)) == ["high", "mid1", "mid2", "mid3", "low"]


@pytest.mark.of_one_shard
async def test_priority_gains_nothing_over_other_tenants(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task(f"a{i}", tenant="a", priority=0) for i in range(3)])
    await broker.enqueue(STAGE, [task(f"b{i}", tenant="b", priority=100) for i in range(3)])
    assert tenants(await claim(broker)) == "ababab"


@pytest.mark.of_one_shard
async def test_a_task_that_comes_back_keeps_its_place_in_line(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("retried"), task("handed back"), task("expired"), task("last")])
    retried, handed_back, _ = await claim(broker, 3)
    await broker.retry_later(retried, delay_seconds=1, reason="busy")
    assert await broker.hand_back([handed_back]) == []
    assert await expire(broker, clock) == 1
    assert await broker.promote_due(STAGE) == 1
    await broker.enqueue(STAGE, [task("new")])

    assert ids(await claim_all(broker)) == ["retried", "handed back", "expired", "last", "new"]


# --- claim: fair among tenants ----------------------------------------------------------------


@pytest.mark.of_one_shard
async def test_tenants_share_by_tokens_not_by_tasks(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 4, cost=30), *tasks("b", 12, cost=10)])
    assert tenants(await claim(broker)) == "abbbabbbabbbabbb"


@pytest.mark.of_one_shard
async def test_tenants_share_by_weight(broker: Broker) -> None:
    await broker.set_shares({"a": TenantShare(weight=1)})
    await broker.set_shares({"b": TenantShare(weight=3)})
    await broker.enqueue(STAGE, [*tasks("a", 3), *tasks("b", 9)])
    assert tenants(await claim(broker)) == "abbbabbbabbb"


@pytest.mark.of_one_shard
async def test_equal_starts_go_to_the_lower_tenant_id(broker: Broker) -> None:
    for tenant in ["b", "é", "a", "Z"]:
        await broker.enqueue(STAGE, tasks(tenant, 2))
    assert tenants(await claim(broker)) == "ZabéZabé"


@pytest.mark.of_one_shard
async def test_idle_time_earns_no_credit(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("early", 20), task("late0", tenant="late")])
    await claim(broker, 10)
    await broker.enqueue(STAGE, tasks("late", 20))

    served = [lease.task.tenant for lease in await claim(broker, 10)]
    assert served.count("late") == 5, "half of what follows, and nothing for the time before"


@pytest.mark.of_one_shard
async def test_leaving_does_not_shed_what_was_charged(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("a1", tenant="a", cost=50), *tasks("b", 10)])
    assert ids(await claim(broker, 1)) == ["a1"]  # a has no work for a moment
    await broker.enqueue(STAGE, [task("a2", tenant="a", cost=50)])
    assert tenants(await claim(broker, 6)) == "bbbbba"


@pytest.mark.of_one_shard
async def test_every_delivery_is_charged(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 2), *tasks("b", 3)])
    first = await claim_one(broker)
    await broker.retry_later(first, delay_seconds=0, reason="busy")
    await broker.promote_due(STAGE)
    assert ids(await claim_all(broker)) == ["b1", "a1", "b2", "a2", "b3"]


@pytest.mark.of_one_shard
async def test_a_cancelled_task_is_not_charged(broker: Broker) -> None:
    await broker.enqueue(
        STAGE, [task("a0", tenant="a", cost=1000, job="cancelled"), *tasks("a", 2), *tasks("b", 2)]
    )
    await broker.cancel_job("cancelled")
    assert tenants(await claim(broker)) == "abab"


@pytest.mark.of_one_shard
async def test_a_new_weight_counts_from_now_on(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 20), *tasks("b", 20)])
    assert tenants(await claim(broker, 4)) == "abab"
    await broker.set_shares({"b": TenantShare(weight=4)})
    assert tenants(await claim(broker, 10)) == "abbbbabbbb"


@pytest.mark.of_one_shard
async def test_a_noisy_neighbour_delays_a_quiet_tenant_by_one_task_at_most(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("noisy", 10_000))
    await claim(broker, 500)
    await broker.enqueue(STAGE, tasks("quiet", 1))
    assert "quiet1" in ids(await claim(broker, 2))


# --- claim: passing tenants over --------------------------------------------------------------


@pytest.mark.of_one_shard
async def test_a_tenant_that_is_passed_over_is_not_served_and_the_others_are_in_order(broker: Broker) -> None:
    await broker.set_shares({"c": TenantShare(weight=2)})
    await broker.enqueue(STAGE, [*tasks("a", 3), *tasks("b", 3), *tasks("c", 6)])
    assert tenants(await claim(broker, passing_over=["b", "unheard of", "b"])) == "accaccacc"
    assert tenants(await claim(broker)) == "bbb"


@pytest.mark.of_one_shard
async def test_passing_over_holds_for_one_claim(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 2))
    assert await claim(broker, passing_over={"a"}) == []
    assert ids(await claim(broker, 1)) == ["a1"]


@pytest.mark.of_one_shard
@pytest.mark.parametrize("number", [63, 64, 65, 200])
async def test_a_claim_finds_those_behind_any_number_of_tenants_that_it_passes_over(
    broker: Broker, number: int
) -> None:
    names = [f"a{n:03}" for n in range(number)]
    await broker.enqueue(STAGE, [task(name, tenant=name) for name in names])
    await broker.enqueue(STAGE, [*tasks("b", 3), *tasks("c", 4)])
    assert tenants(await claim(broker, 7, passing_over=names)) == "bcbcbcc"
    assert await claim(broker, passing_over=names) == []
    assert len(await claim(broker, 500)) == number


@pytest.mark.of_one_shard
async def test_a_tenant_that_was_passed_over_has_no_credit_for_it(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 40), *tasks("z", 20)])
    assert tenants(await claim(broker, 20, passing_over=["z"])) == "a" * 20
    assert tenants(await claim(broker, 10)) == "zazazazaza"


@pytest.mark.of_one_shard
async def test_a_tenant_that_was_passed_over_owes_what_it_owed(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 2, cost=50), *tasks("b", 10)])
    assert ids(await claim(broker, 1)) == ["a1"]
    assert ids(await claim(broker, 1, passing_over=["a"])) == ["b1"]
    assert tenants(await claim(broker, 5)) == "bbbba"


@pytest.mark.of_one_shard
@pytest.mark.parametrize("others", [[], tasks("c", 2)], ids=["", "others run out"])
async def test_passing_over_all_that_have_work_forgives_no_debt(broker: Broker, others: list[Task]) -> None:
    await broker.enqueue(STAGE, [task("a1", tenant="a", cost=50), *tasks("b", 10), *others])
    assert ids(await claim(broker, 1)) == ["a1"]  # a has no work for a moment
    assert tenants(await claim(broker, passing_over=["b"])) == "c" * len(others)
    await broker.enqueue(STAGE, [task("a2", tenant="a", cost=50)])
    charged_before = len(others) - 1 if others else 0  # where c was served last, virtual time stands
    assert tenants(await claim(broker, 6 - charged_before)) == "b" * (5 - charged_before) + "a"


async def test_bulk_work_that_is_passed_over_does_not_interrupt_a_burst(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("b", 2))
    await broker.enqueue(STAGE, tasks("q", 10, lane=Lane.INTERACTIVE))
    assert tenants(await claim(broker, passing_over=["b"])) == "q" * 10


@pytest.mark.of_one_shard
async def test_a_tenant_is_passed_over_in_both_lanes(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("query", tenant="a", lane=Lane.INTERACTIVE), *tasks("a", 2)])
    await broker.enqueue(STAGE, [task("other", tenant="b", lane=Lane.INTERACTIVE), *tasks("b", 1)])
    assert ids(await claim(broker, passing_over=["a"])) == ["other", "b1"]
    assert ids(await claim(broker)) == ["query", "a1", "a2"]


# --- claim: the interactive lane --------------------------------------------------------------


@pytest.mark.of_one_shard
async def test_interactive_tasks_go_first_in_bounded_bursts(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("b", 3))
    await broker.enqueue(STAGE, tasks("q", 8, lane=Lane.INTERACTIVE))
    assert tenants(await claim(broker, 2)) == "qq"
    assert tenants(await claim(broker, 7)) == "qbqqqbq", "a burst goes on from claim to claim"
    assert tenants(await claim(broker)) == "qb"


@pytest.mark.of_one_shard
async def test_interactive_tasks_served_while_no_bulk_waited_do_not_count_as_a_burst(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("q", 20, lane=Lane.INTERACTIVE))
    await claim(broker, 10)
    await broker.enqueue(STAGE, tasks("b", 2))
    assert tenants(await claim(broker, 4)) == "q" * BURST + "b"


async def test_the_interactive_lane_is_fair_among_tenants_too(broker: Broker) -> None:
    await broker.set_shares({"b": TenantShare(weight=2)})
    for tenant in "ab":
        await broker.enqueue(STAGE, tasks(tenant, 20, lane=Lane.INTERACTIVE))
    assert tenants(await claim(broker, 6)) == "abbabb"
