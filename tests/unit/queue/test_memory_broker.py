"""What only the broker in memory promises: it holds on to nothing that has ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import InvalidRequest
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.ready_tasks import ReadyTasks
from embedfleet.queue_schemas import Stage

STAGE = Stage.STORAGE


async def claim_one(broker: MemoryBroker) -> Lease:
    [lease] = await broker.claim(STAGE, worker="w1", max_tasks=1, max_cost=1, lease_seconds=60)
    return lease


async def acked(broker: MemoryBroker) -> None:
    assert await broker.ack([await claim_one(broker)]) == []


async def cancelled_while_ready(broker: MemoryBroker) -> None:
    await broker.cancel_job("job")


async def cancelled_while_delayed(broker: MemoryBroker) -> None:
    await broker.retry_later(await claim_one(broker), delay_seconds=3600, reason="busy")
    await broker.cancel_job("job")


async def cancelled_while_leased(broker: MemoryBroker) -> None:
    lease = await claim_one(broker)
    await broker.cancel_job("job")
    assert await broker.hand_back([lease]) == []


@pytest.mark.parametrize(
    "end", [acked, cancelled_while_ready, cancelled_while_delayed, cancelled_while_leased]
)
async def test_a_payload_is_let_go_when_its_task_has_ended(
    clock: ManualClock, end: Callable[[MemoryBroker], Awaitable[None]]
) -> None:
    broker = MemoryBroker(clock=clock)
    payload = os.urandom(1024)
    references = sys.getrefcount(payload)
    await broker.enqueue(STAGE, [Task("a", "acme", "job", 1, payload)])
    assert sys.getrefcount(payload) > references

    await end(broker)
    assert sys.getrefcount(payload) == references


def test_offering_and_cancelling_for_ever_leaves_no_garbage_behind() -> None:
    ready = ReadyTasks(interactive_burst=8, shares={})
    ready.add(Task("stays", "acme", "job", 1, b"", priority=100), 0)
    for sequence in range(1, 10_000):
        task = Task(f"t{sequence}", "acme", "job", 1, b"")
        ready.add(task, sequence)
        ready.discard(task, sequence)
    assert len(ready._bulk._backlogs["acme"]._heap) < 20


def test_a_burst_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="interactive_burst"):
        MemoryBroker(interactive_burst=0)


async def test_a_death_of_an_earlier_process_counts_as_a_delivery_of_this_stages_task() -> None:
    broker = MemoryBroker(deaths={(STAGE.value, "suspect"): 2})
    offered = [Task(name, "t", "job", cost=1, payload=b"") for name in ("suspect", "other")]
    attempts: dict[tuple[Stage, str], int] = {}
    for stage in (STAGE, Stage.EMBEDDING):
        await broker.enqueue(stage, offered)
        while leases := await broker.claim(stage, worker="w", max_tasks=9, max_cost=9, lease_seconds=60):
            attempts |= {(stage, lease.task.id): lease.attempt for lease in leases}
    assert attempts == {
        (STAGE, "suspect"): 3,
        (STAGE, "other"): 1,
        (Stage.EMBEDDING, "suspect"): 1,
        (Stage.EMBEDDING, "other"): 1,
    }


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_machine_whose_clock_is_set_ends_no_lease_and_prolongs_no_pause(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """A lease that ended would make a suspect, which is tried alone, of a task that is at work."""
    broker = MemoryBroker()
    tasks = [Task(name, "t", "job", cost=1, payload=b"") for name in ("held", "paused")]
    await broker.enqueue(STAGE, tasks)
    lease, paused = await claim_one(broker), await claim_one(broker)
    await broker.retry_later(paused, delay_seconds=0, reason="busy")
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 3600 * hours)
    assert await broker.reap_expired(STAGE) == 0
    assert await broker.promote_due(STAGE) == 1
    assert await broker.ack([lease]) == []
