"""Measures the rate of each pool. With auto-scaling on, sets its size by the policy of `scaling`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar

from loguru import logger

from embedfleet.host.pool import WorkerPool
from embedfleet.host.registration import Peers
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.queue.broker import Depth
from embedfleet.queue_schemas import Stage
from embedfleet.scaling import (
    Observation,
    PoolLimits,
    ScalingState,
    ServiceMeter,
    decide,
)
from embedfleet.settings import AutoScalingSettings, PoolSettings, PoolsSettings
from embedfleet.waiting import repeat

_NEXT_STAGE = {Stage.CHUNKING: Stage.EMBEDDING, Stage.EMBEDDING: Stage.STORAGE}


@dataclass(slots=True)
class _Measured:
    """The measurements of one pool, and the state of its scaling decisions."""

    meter: ServiceMeter = field(default_factory=ServiceMeter)
    busy_seconds: float = 0.0
    cost: float = 0.0
    # The last rate that was known: of this host's workers, or of those of others.
    rate: float | None = None
    state: ScalingState = field(default_factory=ScalingState)


class Scaler:
    """Looks at every pool of the host at an interval. Sizes change only if `auto_scaling.enabled`.

    A `Service`.
    """

    name: ClassVar = "scaler"

    def __init__(
        self,
        *,
        pools: Mapping[Stage, WorkerPool],
        settings: PoolsSettings,
        auto_scaling: AutoScalingSettings,
        depths: Mapping[Stage, Depth],
        shards: Callable[[], int],
        peers: Peers,
        collector: MergedCollector,
        metrics: Metrics,
    ) -> None:
        """`depths` and `peers` are kept up to date by other services. The scaler reads them at every look.

        `shards` returns how many shards a stage has now.
        """
        self._pools = pools
        self._settings = settings
        self._auto_scaling = auto_scaling
        self._depths = depths
        self._shards = shards
        self._peers = peers
        self._collector = collector
        self._metrics = metrics
        self._measured = {stage: _Measured() for stage in pools}

    async def run(self, stop: asyncio.Event) -> None:
        """Look at every pool at an interval until `stop` is set."""
        await repeat(stop, self.look, seconds=self._auto_scaling.interval_seconds)

    async def look(self) -> None:
        """Look once at every pool."""
        for stage, pool in self._pools.items():
            self._measure(stage)
            if stage in self._depths:
                self._consider(stage, pool, self._depths[stage])

    def rate(self, stage: Stage) -> float | None:
        """Return the tokens that a worker of this host does in a second of work; None before any work."""
        return self._measured[stage].meter.cost_per_busy_second

    def _measure(self, stage: Stage) -> None:
        """Add the work of the pool's workers since the last look to its meter."""
        # Each loop of a worker counts its own busy time. A worker whose loops are all busy is busy once.
        measured = self._measured[stage]
        busy = self._collector.total("embedding_busy_seconds_total", stage=stage.value)
        busy /= self._settings.of(stage.value).concurrency
        cost = self._collector.total("embedding_task_cost_tokens_total", stage=stage.value)
        measured.meter.add(
            monotonic(),
            busy_seconds=max(0.0, busy - measured.busy_seconds),
            cost=max(0.0, cost - measured.cost),
        )
        measured.busy_seconds, measured.cost = busy, cost

    def _consider(self, stage: Stage, pool: WorkerPool, depth: Depth) -> None:
        seen = self._observe(stage, pool, depth)
        self._tell_backlog(stage, depth, seen.cost_per_busy_second)
        if not self._auto_scaling.enabled:
            return
        measured = self._measured[stage]
        decision = decide(self._auto_scaling, limits_of(self._settings.of(stage.value)), seen, measured.state)
        measured.state = decision.state
        if decision.target != pool.target:
            logger.bind(stage=stage.value).info("scaling: {}", decision.reason)
            pool.resize(decision.target)

    def _tell_backlog(self, stage: Stage, depth: Depth, rate: float | None) -> None:
        """Set the backlog of the whole fleet. While work waits and its rate is unknown, there is no series.

        An old value would tell what scales the workers from outside that nothing waits, and it would start
        none.
        """
        fleet_workers = max(1, self._peers.workers(stage))
        if depth.ready_cost == 0:
            self._metrics.backlog_seconds.labels(stage.value).set(0)
        elif rate:
            self._metrics.backlog_seconds.labels(stage.value).set(depth.ready_cost / (rate * fleet_workers))
        else:
            self._metrics.forget_backlog(stage.value)

    def _known_rate(self, stage: Stage) -> float | None:
        """Return the tokens a second of one worker; None if no worker of the fleet has worked yet.

        It is remembered after the last worker has ended: the length of the queue is still to be told.
        """
        measured = self._measured[stage]
        measured.rate = self.rate(stage) or self._peers.rate(stage) or measured.rate
        return measured.rate

    def _observe(self, stage: Stage, pool: WorkerPool, depth: Depth) -> Observation:
        return Observation(
            now=monotonic(),
            workers=pool.target,
            backlog_cost=depth.ready_cost / self._peers.hosts(stage),
            waiting_tasks=depth.ready,
            held_tasks=depth.leased,
            busy_workers=self._measured[stage].meter.busy_workers,
            cost_per_busy_second=self._known_rate(stage),
            downstream_full=self._is_full_after(stage),
        )

    def _is_full_after(self, stage: Stage) -> bool:
        """Whether the next stage's queue is so full that workers of this stage pause."""
        following = _NEXT_STAGE.get(stage)
        if following is None or following not in self._depths:
            return False
        waiting = self._depths[following]
        # As workers compare: each shard of embedding has the whole room, all shards of storage have one.
        rooms = self._shards() if following is Stage.EMBEDDING else 1
        return self._settings.of(following.value).is_full(
            ready_tasks=waiting.ready // rooms, ready_tokens=waiting.ready_cost // rooms
        )


def limits_of(settings: PoolSettings) -> PoolLimits:
    return PoolLimits(settings.min_workers, settings.max_workers)
