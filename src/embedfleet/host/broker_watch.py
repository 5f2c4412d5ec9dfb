"""Watches the broker's counts. Every orchestrator does, because its metrics and its scaling need them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from embedfleet.errors import EmbedfleetError
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker, Depth
from embedfleet.queue_schemas import Stage
from embedfleet.trouble import Trouble
from embedfleet.waiting import repeat

_LOOK_SECONDS = 1.0


class BrokerWatch:
    """Keeps `depths` and the broker's metrics up to date. A `Service`."""

    name: ClassVar = "broker watch"

    def __init__(self, *, broker: Broker, metrics: Metrics, stages: Sequence[Stage] = tuple(Stage)) -> None:
        """`stages` are those to look at."""
        self._broker = broker
        self._stages = stages
        self._metrics = metrics
        self._depths: dict[Stage, Depth] = {}
        self.trouble = Trouble(over="the broker answers again")

    @property
    def depths(self) -> Mapping[Stage, Depth]:
        """The counts of each stage at the last look. A stage without a successful look is missing."""
        return self._depths

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second until `stop` is set, also while the broker is away."""
        await repeat(stop, self.look, seconds=_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once. What fails is the trouble of this watch."""
        try:
            for stage in self._stages:
                self._note(stage, await self._broker.depth(stage))
            # After the counts, which a broker that is out of memory still tells.
            for stage in self._stages:
                await self._broker.check_writes(stage)
        except EmbedfleetError as exc:  # ConfigError too: a password that was changed must end no host
            self._metrics.broker_up.set(0)
            self.trouble.note(exc)
        else:
            self._metrics.broker_up.set(1)
            self.trouble.clear()

    def _note(self, stage: Stage, depth: Depth) -> None:
        self._depths[stage] = depth
        label = stage.value
        self._metrics.queue_depth.labels(label).set(depth.ready + depth.delayed)
        self._metrics.backlog_cost_tokens.labels(label).set(depth.ready_cost + depth.delayed_cost)
        self._metrics.leased_tasks.labels(label).set(depth.leased)
        self._metrics.dead_tasks.labels(label).set(depth.dead)
