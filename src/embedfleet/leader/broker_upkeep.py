"""The duty that makes delayed tasks ready when they are due and ends expired leases."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.leader.service import LeaderDuty
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage

UPKEEP_SECONDS = 0.2
"""The pause between two looks for due tasks and expired leases. It bounds how late a retry can be."""


class BrokerUpkeep(LeaderDuty):
    """Promotes delayed tasks that are due, and ends the expired leases of workers that fell silent."""

    name: ClassVar = "broker upkeep"
    works_again: ClassVar = "the broker is kept in order again"

    def __init__(self, *, broker: Broker, metrics: Metrics) -> None:
        self._broker = broker
        self._metrics = metrics

    async def step(self) -> None:
        expired: dict[str, int] = {}
        failures: list[EmbedfleetError] = []

        async def tend(stage: Stage) -> None:
            try:
                await self._broker.promote_due(stage)
            except EmbedfleetError as exc:
                failures.append(exc)
            try:
                if number := await self._broker.reap_expired(stage):
                    expired[stage.value] = number
                    self._metrics.lease_expiries_total.labels(stage.value).inc(number)
            except EmbedfleetError as exc:
                failures.append(exc)

        # Stages may be on servers of their own. One that is away must not hold up the others.
        await asyncio.gather(*map(tend, Stage))
        if expired:
            counts = ", ".join(f"{number} {stage}" for stage, number in expired.items())
            logger.warning(
                "leases expired: {}; their workers fell silent, and the tasks are offered to others", counts
            )
        if failures:
            raise failures[0]
