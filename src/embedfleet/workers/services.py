"""What all loops of a process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedfleet.clock import Clock
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.settings import PoolsSettings
from embedfleet.sql.database import Database
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
