"""How a task comes to a broker."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.queue.broker import Broker, Task
from embedfleet.queue_schemas import Stage


async def offer(broker: Broker, stage: Stage, tasks: Sequence[Task]) -> None:
    """Enqueue, also what was dead-lettered before: SQL says it is wanted again."""
    if await broker.enqueue(stage, tasks) < len(tasks):
        await broker.requeue_dead(stage, [task.id for task in tasks])
