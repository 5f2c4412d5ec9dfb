"""The broker's upkeep: delayed tasks become ready, expired leases end, and the counts are looked at."""

from __future__ import annotations

import asyncio
from time import monotonic

from loguru import logger

from embedfleet.errors import Transient
from embedfleet.leader.election import Election
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker, Depth
from embedfleet.queue_schemas import Stage
from embedfleet.waiting import wait_briefly

# Delayed and expired tasks are looked for this often; it bounds how late a retry can be.
_UPKEEP_SECONDS = 0.2
_LOOK_SECONDS = 1.0


class Housekeeping:
    """The leader keeps the broker in order; every orchestrator looks at it for its metrics."""

    def __init__(self, *, broker: Broker, election: Election, metrics: Metrics) -> None:
        self._broker = broker
        self._election = election
        self._metrics = metrics
        self._looked_at = float("-inf")
        self.depths: dict[Stage, Depth] = {}
        self.trouble: str | None = None

    async def run(self, done: asyncio.Event) -> None:
        """Until `done`; a broker that is away is waited for."""
        while not done.is_set():
            try:
                if self._election.leads:
                    await self._keep_in_order()
                if monotonic() - self._looked_at >= _LOOK_SECONDS:
                    await self._look()
            except Transient as exc:
                self._away(exc)
                await wait_briefly(done, _LOOK_SECONDS)
            await wait_briefly(done, _UPKEEP_SECONDS)

    async def _keep_in_order(self) -> None:
        for stage in Stage:
            await self._broker.promote_due(stage)
            expired = await self._broker.reap_expired(stage)
            if expired:
                logger.bind(stage=stage.value).warning(
                    "{} leases expired, their tasks are offered again", expired
                )
                self._metrics.lease_expiries_total.labels(stage.value).inc(expired)

    async def _look(self) -> None:
        for stage in Stage:
            depth = self.depths[stage] = await self._broker.depth(stage)
            label = stage.value
            self._metrics.queue_depth.labels(label).set(depth.ready + depth.delayed)
            self._metrics.backlog_cost_tokens.labels(label).set(depth.ready_cost + depth.delayed_cost)
            self._metrics.leased_tasks.labels(label).set(depth.leased)
            self._metrics.dead_tasks.labels(label).set(depth.dead)
        self._looked_at = monotonic()
        self._metrics.broker_up.set(1)
        if self.trouble is not None:
            logger.info("the broker answers again")
            self.trouble = None

    def _away(self, exc: Transient) -> None:
        self._metrics.broker_up.set(0)
        if self.trouble is None:
            logger.warning("waiting: {}", exc)
        self.trouble = str(exc)
