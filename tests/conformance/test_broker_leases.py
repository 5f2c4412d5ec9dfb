"""What every broker must promise of leases and how they end: the sentences of `embedfleet.queue.broker`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import LeaseLost
from embedfleet.queue.broker import (
    Broker,
    Depth,
)
from embedfleet.queue_schemas import Stage
from support.brokers import (
    ENDINGS,
    LEASE_SECONDS,
    STAGE,
    EndLease,
    claim,
    claim_all,
    claim_one,
    end_by_expiry,
    end_by_hand_back,
    end_by_retry,
    expire,
    ids,
    task,
    tasks,
)

# --- leases: attempts, expiry, renewal --------------------------------------------------------


async def test_fences_grow_with_every_claim(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 2))
    fences = [lease.fence for lease in await claim(broker, 2)]
    await broker.enqueue(STAGE, tasks("b", 1))
    lease = await claim_one(broker)
    assert await broker.hand_back([lease]) == []
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
    assert await broker.hand_back([await claim_one(broker)]) == []
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
    assert await broker.ack([lease]) == []
    assert (await broker.depth(STAGE)).done == 1


async def test_an_expired_lease_holds_until_it_is_reaped(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, [task("a"), task("b")])
    late, later = await claim(broker)
    clock.advance(LEASE_SECONDS + 1)
    [renewed] = await broker.renew([late], lease_seconds=LEASE_SECONDS)
    assert await broker.ack([later]) == []
    assert await broker.reap_expired(STAGE) == 0
    assert await broker.ack([renewed]) == []


@pytest.mark.of_one_shard
async def test_the_longest_expired_are_reaped_first(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    first, *_ = await claim(broker)
    await broker.renew([first], lease_seconds=LEASE_SECONDS + 1)  # claimed first, expires last
    clock.advance(LEASE_SECONDS + 2)
    assert await broker.reap_expired(STAGE, limit=2) == 2
    assert ids(await claim_all(broker)) == ["a2", "a3"]


# --- leases: fencing --------------------------------------------------------------------------


@pytest.mark.of_one_shard
async def test_of_many_leases_renew_returns_those_that_hold(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    await broker.enqueue(Stage.STORAGE, tasks("a", 1))
    leases = [*await claim(broker), *await claim(broker, stage=Stage.STORAGE)]
    assert await broker.ack([leases[1]]) == []
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


@pytest.mark.parametrize("verb", ["ack", "hand_back"])
async def test_of_many_leases_those_that_are_lost_are_returned_and_the_others_end(
    broker: Broker, clock: ManualClock, verb: str
) -> None:
    end = broker.ack if verb == "ack" else broker.hand_back
    await broker.enqueue(STAGE, tasks("a", 4))
    await broker.enqueue(Stage.STORAGE, tasks("a", 2))
    await broker.enqueue(STAGE, [task("taken over", tenant="z")])
    leases = await claim(broker)
    storage = await claim(broker, stage=Stage.STORAGE)
    acked_before, given_back_before = leases[0], leases[-1]
    await broker.ack([acked_before])
    await broker.hand_back([given_back_before])
    [holder] = await claim(broker)

    given = [*leases[:2], storage[0], leases[1], *leases[2:], storage[1]]
    assert await end(given) == [acked_before, leases[1], given_back_before], "in order; one was given twice"
    depth = await broker.depth(STAGE)
    assert (depth.leased, depth.ready + depth.done) == (1, 4)
    assert (await broker.depth(Stage.STORAGE)).leased == 0
    assert await broker.renew([holder], lease_seconds=LEASE_SECONDS) != []
    assert await end([]) == []


@pytest.mark.parametrize("verb", ["ack", "hand_back"])
async def test_any_number_of_leases_may_be_ended(broker: Broker, verb: str) -> None:
    await broker.enqueue(STAGE, tasks("a", 2_500))
    leases = [lease for _ in range(3) for lease in await claim(broker)]
    end = broker.ack if verb == "ack" else broker.hand_back
    assert await end(leases) == []
    assert await end(leases) == leases
    depth = await broker.depth(STAGE)
    assert (depth.done if verb == "ack" else depth.ready) == 2_500


@pytest.mark.of_one_shard
async def test_tasks_handed_back_together_keep_their_places(broker: Broker) -> None:
    await broker.enqueue(STAGE, [task("last", priority=0), task("first"), task("second"), task("third")])
    leases = await claim(broker)
    await broker.hand_back(list(reversed(leases)))
    again = await claim(broker)
    assert [(lease.task.id, lease.attempt) for lease in again] == [
        ("first", 1),
        ("second", 1),
        ("third", 1),
        ("last", 1),
    ]


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


@pytest.mark.of_one_shard
async def test_the_longest_due_are_promoted_first(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    for lease, delay_seconds in zip(await claim(broker), [3, 1, 2], strict=True):
        await broker.retry_later(lease, delay_seconds=delay_seconds, reason="busy")
    clock.advance(10)
    assert await broker.promote_due(STAGE, limit=2) == 2
    assert ids(await claim_all(broker)) == ["a2", "a3"]


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
    assert await broker.hand_back([await claim_one(broker)]) == []
    await claim_one(broker)
    await expire(broker, clock)
    await broker.dead_letter(await claim_one(broker), reason="not finite")

    [dead] = await broker.dead(STAGE)
    assert (dead.task, dead.attempt, dead.reason) == (task("a"), 2, "not finite")
    assert dead.died_at == clock.now()
    assert await claim(broker) == []


@pytest.mark.of_one_shard
async def test_dead_letters_are_listed_oldest_first(broker: Broker, clock: ManualClock) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    for lease in reversed(await claim(broker)):
        clock.advance(1)
        await broker.dead_letter(lease, reason="poison")
    assert [dead.task.id for dead in await broker.dead(STAGE)] == ["a3", "a2", "a1"]
    assert [dead.task.id for dead in await broker.dead(STAGE, limit=2)] == ["a3", "a2"]
    assert await broker.dead(Stage.STORAGE) == []


@pytest.mark.of_one_shard
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


@pytest.mark.of_one_shard
async def test_dropped_dead_letters_count_as_done_and_may_be_offered_again(broker: Broker) -> None:
    await broker.enqueue(STAGE, tasks("a", 3))
    for lease in await claim(broker, 2):
        await broker.dead_letter(lease, reason="poison")

    assert await broker.drop_dead(STAGE, ["a1", "a1", "a3", "unheard of"]) == 1
    assert [dead.task.id for dead in await broker.dead(STAGE)] == ["a2"]
    depth = await broker.depth(STAGE)
    assert (depth.enqueued, depth.ready, depth.dead, depth.done) == (3, 1, 1, 1)
    assert await broker.requeue_dead(STAGE, ["a1"]) == 0
    assert await broker.enqueue(STAGE, tasks("a", 3)) == 1


# --- cancel -----------------------------------------------------------------------------------


async def test_cancel_drops_a_jobs_ready_and_delayed_tasks_in_every_stage(
    broker: Broker, clock: ManualClock
) -> None:
    for stage in Stage:
        await broker.enqueue(stage, [task("delayed")])
        await broker.retry_later(await claim_one(broker, stage=stage), delay_seconds=5, reason="busy")
        await broker.enqueue(stage, [task("ready"), task("other", job="other")])

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
    assert await broker.ack([renewed]) == []
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
    assert sorted(ids(leases)) == ["a", "b"]
    for lease in leases:
        assert await broker.hand_back([lease]) == []
    assert (await broker.depth(STAGE)).ready == 2
