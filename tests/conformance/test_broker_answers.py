"""What every broker must promise of one lane alone, and of answers."""

from __future__ import annotations

import asyncio

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable, InvalidRequest
from embedfleet.queue.broker import Broker, Lane
from embedfleet.queue_schemas import Stage
from support.brokers import BURST, LEASE_SECONDS, STAGE, claim_all, ids, task, tasks
from support.hangs import HANG_SECONDS


async def claim_lane(
    broker: Broker, lane: Lane, *, max_tasks: int = 100, passing_over: str = ""
) -> list[str]:
    leases = await broker.claim(
        STAGE,
        worker="w1",
        max_tasks=max_tasks,
        max_cost=1_000,
        lease_seconds=LEASE_SECONDS,
        passing_over=list(passing_over),
        lane=lane,
    )
    return ids(leases)


@pytest.mark.of_one_shard
async def test_a_claim_of_a_lane_takes_tasks_of_no_other(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", 2), *tasks("b", 2, lane=Lane.INTERACTIVE)])
    assert await claim_lane(broker, Lane.BULK) == ["a1", "a2"]
    assert await claim_lane(broker, Lane.BULK) == []
    assert await claim_lane(broker, Lane.INTERACTIVE) == ["b1", "b2"]


@pytest.mark.of_one_shard
async def test_a_lane_alone_serves_its_tenants_fairly_and_may_pass_some_over(broker: Broker) -> None:
    both = [*tasks("a", 3, lane=Lane.INTERACTIVE), *tasks("b", 3, lane=Lane.INTERACTIVE)]
    await broker.enqueue(STAGE, [*both, *tasks("c", 1)])
    assert await claim_lane(broker, Lane.INTERACTIVE, max_tasks=2, passing_over="a") == ["b1", "b2"]
    assert await claim_lane(broker, Lane.INTERACTIVE, max_tasks=3) == ["a1", "a2", "b3"]


@pytest.mark.of_one_shard
async def test_a_claim_of_a_lane_does_not_count_for_the_burst(broker: Broker) -> None:
    await broker.enqueue(STAGE, [*tasks("a", BURST + 2, lane=Lane.INTERACTIVE), *tasks("b", 1)])
    assert await claim_lane(broker, Lane.INTERACTIVE, max_tasks=2) == ["a1", "a2"]
    # All of the burst is left, as the two before were of a claim that served no bulk task anyway.
    assert ids(await claim_all(broker)) == [f"a{n}" for n in range(3, BURST + 3)] + ["b1"]


async def test_a_wait_for_a_lane_ends_for_its_tasks_only(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("bulk")])
    assert not await broker.wait_for_ready(STAGE, timeout_seconds=0, lane=Lane.INTERACTIVE)
    assert await broker.wait_for_ready(STAGE, timeout_seconds=0, lane=Lane.BULK)

    waiting = asyncio.ensure_future(
        broker.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS, lane=Lane.INTERACTIVE)
    )
    await broker.take_answers(STAGE, timeout_seconds=0.01)  # by now the wait has begun
    await broker.enqueue(STAGE, [task("now", lane=Lane.INTERACTIVE)])
    assert await waiting


async def test_answers_are_taken_once_in_their_order(broker: Broker) -> None:
    await broker.answer(STAGE, broker.mailbox, [b"one", b"two"], keep_seconds=60)
    await broker.answer(STAGE, broker.mailbox, [b"\0\xff"], keep_seconds=60)
    await broker.answer(STAGE, broker.mailbox, [], keep_seconds=60)
    assert await broker.take_answers(STAGE, timeout_seconds=0) == [b"one", b"two", b"\0\xff"]
    assert await broker.take_answers(STAGE, timeout_seconds=0) == []


async def test_answers_for_another_process_and_of_another_stage_are_not_ours(broker: Broker) -> None:
    await broker.answer(STAGE, "another", [b"theirs"], keep_seconds=60)
    await broker.answer(Stage.STORAGE, broker.mailbox, [b"of storage"], keep_seconds=60)
    assert await broker.take_answers(STAGE, timeout_seconds=0) == []
    assert await broker.take_answers(Stage.STORAGE, timeout_seconds=0) == [b"of storage"]


async def test_who_waits_for_an_answer_gets_it_as_soon_as_it_comes(broker: Broker) -> None:
    taking = asyncio.ensure_future(broker.take_answers(STAGE, timeout_seconds=HANG_SECONDS))
    await broker.take_answers(Stage.STORAGE, timeout_seconds=0.01)  # by now the wait has begun
    await broker.answer(STAGE, broker.mailbox, [b"now"], keep_seconds=60)
    assert await taking == [b"now"]


async def test_answers_that_are_not_taken_expire(broker: Broker, clock: ManualClock) -> None:
    """In the memory of this process by its clock; Redis has one of its own, for which a moment is waited."""
    await broker.answer(STAGE, broker.mailbox, [b"old"], keep_seconds=0.001)
    await broker.answer(STAGE, broker.mailbox, [b"newer"], keep_seconds=0.001)
    clock.advance(0.001)
    async with asyncio.timeout(HANG_SECONDS):
        await broker.wait_for_ready(STAGE, timeout_seconds=0.02)
    assert await broker.take_answers(STAGE, timeout_seconds=0) == []


@pytest.mark.parametrize("keep_seconds", [0, -1, float("nan")])
async def test_an_answer_that_is_not_kept_is_refused(broker: Broker, keep_seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="keep_seconds"):
        await broker.answer(STAGE, broker.mailbox, [b"a"], keep_seconds=keep_seconds)


async def test_closing_wakes_who_waits_for_an_answer(broker: Broker) -> None:
    taking = asyncio.ensure_future(broker.take_answers(STAGE, timeout_seconds=HANG_SECONDS))
    await asyncio.sleep(0)
    await broker.close()
    with pytest.raises(BrokerUnavailable):
        await taking
