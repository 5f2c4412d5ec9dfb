"""The worker pools of a host, one for each stage. They are sized, run and drained together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.host.pool import PoolState, WorkerPool
from embedfleet.queue.broker import Depth
from embedfleet.queue_schemas import Stage
from embedfleet.settings import Settings
from embedfleet.waiting import first_of, wait_briefly

# While the workers drain, the log says so at once and then at this interval.
_DRAIN_NEWS_SECONDS = 5.0


class HostPools:
    """All worker pools of this host. Call `run` once, and the other methods on the same event loop."""

    def __init__(
        self, pools: Mapping[Stage, WorkerPool], *, drain_seconds: float, depths: Mapping[Stage, Depth]
    ) -> None:
        """`depths` are the broker's counts at its last look, over all hosts."""
        self._pools = pools
        self._depths = depths
        self._drain_seconds = drain_seconds
        self._running = False

    @property
    def by_stage(self) -> Mapping[Stage, WorkerPool]:
        return self._pools

    @property
    def trouble(self) -> EmbedfleetError | None:
        """The failure because of which work is put off now (disk full, store away); None if no work is."""
        return next((state.trouble for state in self.states() if state.trouble), None)

    def states(self) -> list[PoolState]:
        """Return the present state of every pool."""
        return [pool.state() for pool in self._pools.values()]

    def resize(self, workers: Mapping[str, int]) -> None:
        """Set the number of workers of the named stages, as a person or the settings want. Surplus workers
        drain."""
        for stage, number in workers.items():
            pool = self._pools[Stage(stage)]
            if number != pool.target:
                # The first size is no change that a reader of the log could ask about.
                level = "INFO" if self._running else "DEBUG"
                logger.log(level, "{} pool resized: {} -> {} workers", stage, pool.target, number)
                pool.resize(number)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep every pool at its size until `stop` is set, then drain. Return when no worker is left."""
        self._running = True
        drained = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            limit = tasks.create_task(self._limit_drain(stop, drained), name="drain limit")
            async with asyncio.TaskGroup() as pools:
                for stage, pool in self._pools.items():
                    pools.create_task(pool.run(stop), name=f"{stage.value} pool")
            drained.set()
            await limit

    def _at_work(self) -> str:
        """Return what is in hand, and how many workers are left of each stage; empty if none is left."""
        counts = ((state.stage.value, state.running + state.draining) for state in self.states())
        workers = ", ".join(f"{number} {stage}" for stage, number in counts if number)
        in_hand = sum(depth.leased for depth in self._depths.values())
        return f"{in_hand} tasks in hand (of all hosts); workers left: {workers}" if workers else ""

    async def _limit_drain(self, stop: asyncio.Event, drained: asyncio.Event) -> None:
        """After a stop, wait `drain_seconds` for the pools. Then make their workers hand back their tasks."""
        await first_of(stop.wait(), drained.wait())
        give_up_at = monotonic() + self._drain_seconds
        while not drained.is_set() and (left := give_up_at - monotonic()) > 0:
            if at_work := self._at_work():
                logger.info("draining, for up to {:.0f} s more: {}", left, at_work)
            await wait_briefly(drained, min(left, _DRAIN_NEWS_SECONDS))
        if not drained.is_set():
            logger.warning("not drained in {} s: what is in hand is handed back", self._drain_seconds)
            for pool in self._pools.values():
                pool.abort()


def initial_sizes(settings: Settings) -> dict[str, int]:
    """Return the number of workers of each stage at the start. With auto-scaling, it is within the limits.

    It is 0 where something else starts the workers.
    """
    return {stage.value: _initial_size(settings, stage) for stage in Stage}


def _initial_size(settings: Settings, stage: Stage) -> int:
    if settings.orchestrator.launcher == "none":
        return 0
    pool = settings.worker_pools.of(stage.value)
    if not settings.auto_scaling.enabled:
        return pool.workers
    return min(max(pool.workers, pool.min_workers), pool.max_workers)
