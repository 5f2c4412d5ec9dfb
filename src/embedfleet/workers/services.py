"""What every worker of a process shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedfleet.clock import Clock
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.settings import PoolsSettings
from embedfleet.sql.database import Database
from embedfleet.workers.company import Company
from embedfleet.workers.in_hand import InHand


@dataclass(frozen=True, slots=True)
class Services:
    """Opened by whoever assembles the process, and closed by it after the last worker has ended."""

    broker: Broker
    database: Database
    metrics: Metrics
    clock: Clock
    pools: PoolsSettings
    company: Company = field(default_factory=Company)
    in_hand: InHand = field(default_factory=InHand)
