"""Offers tasks to a broker, including tasks that the broker holds as dead."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.queue.broker import Broker, Task
from embedfleet.queue_schemas import Stage


async def offer(broker: Broker, stage: Stage, tasks: Sequence[Task]) -> None:
    """Enqueue the tasks. Make a task that the broker holds as dead ready again.

    `enqueue` ignores a dead task, but the caller offers it because SQL says that it is wanted again.
    """
    if await broker.enqueue(stage, tasks) < len(tasks):
        await broker.requeue_dead(stage, [task.id for task in tasks])
