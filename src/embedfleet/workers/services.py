"""The objects that all loops of a process share, and those that the loops of one worker share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from embedfleet.clock import Clock
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.settings import PoolsSettings
from embedfleet.sql.database import Database
from embedfleet.trouble import Trouble
from embedfleet.workers.exclusive_slot import ExclusiveSlot
from embedfleet.workers.task_journal import TaskJournal


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that all loops of a process share.

    The code that assembles the process opens them, and closes them after the last worker has ended.
    """

    broker: Broker
    database: Database
    metrics: Metrics
    clock: Clock
    pools: PoolsSettings
    exclusive_slot: ExclusiveSlot = field(default_factory=ExclusiveSlot)
    journal: TaskJournal = field(default_factory=TaskJournal)


class SharedClaiming:
    """The state of claiming that the loops of one worker share.

    The loop that holds `turn` waits for tasks and claims them. So only one loop wakes up for one task.
    `broker_trouble` is shared, so that the log reports a broker that is away once and not once per loop.
    """

    def __init__(self, broker_trouble: Trouble) -> None:
        self.turn = asyncio.Lock()
        self.broker_trouble = broker_trouble
