"""The objects that every part of an orchestrator uses, passed together."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.clock import Clock
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.settings import Settings
from embedfleet.sql.database import Database


@dataclass(frozen=True, slots=True)
class Foundations:
    """The objects that the parts of an orchestrator are built on. `bootstrap` opens and closes them."""

    settings: Settings
    database: Database
    broker: Broker
    metrics: Metrics
    clock: Clock
