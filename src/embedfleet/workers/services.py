"""What the loops of a process share, and what the loops of one worker share."""

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
    """The code that assembles the process opens them, and closes them after the last worker has ended."""

    broker: Broker
    database: Database
    metrics: Metrics
    clock: Clock
    pools: PoolsSettings
    exclusive_slot: ExclusiveSlot = field(default_factory=ExclusiveSlot)
    journal: TaskJournal = field(default_factory=TaskJournal)


class SharedClaiming:
    """What the loops of one worker share about claiming.

    One loop at a time holds `turn`, waits for tasks and claims, so that the loops do not all wake up for one
    task. `broker_trouble` is shared because what one loop learns about the broker, the others need not find
    out again.
    """

    def __init__(self, broker_trouble: Trouble) -> None:
        self.turn = asyncio.Lock()
        self.broker_trouble = broker_trouble
