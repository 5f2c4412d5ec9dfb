"""The pools of a host, one of each stage: sized, run and drained together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.host.pool import PoolState, WorkerPool
from embedfleet.queue_schemas import Stage
from embedfleet.settings import Settings
from embedfleet.waiting import first_of, wait_briefly


class HostPools:
    """All worker pools of this host. `run` it once; the other methods belong to the same event loop."""

    def __init__(self, pools: Mapping[Stage, WorkerPool], *, drain_seconds: float) -> None:
        self._pools = pools
        self._drain_seconds = drain_seconds

    @property
    def by_stage(self) -> Mapping[Stage, WorkerPool]:
        return self._pools

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off at the moment (disk full, store away), if it is."""
        return next((state.trouble for state in self.states() if state.trouble), None)

    def states(self) -> list[PoolState]:
        """Every pool as it is now."""
        return [pool.state() for pool in self._pools.values()]

    def resize(self, workers: Mapping[str, int]) -> None:
        """Set the number of workers of the named stages; surplus workers drain."""
        for stage, number in workers.items():
            pool = self._pools[Stage(stage)]
            if number != pool.target:
                logger.bind(stage=stage).info("resized: {} -> {} workers", pool.target, number)
                pool.resize(number)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep every pool at its size until `stop` is set; then drain. Returns when no worker is left."""
        drained = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            limit = tasks.create_task(self._limit_drain(stop, drained), name="drain limit")
            async with asyncio.TaskGroup() as pools:
                for stage, pool in self._pools.items():
                    pools.create_task(pool.run(stop), name=f"{stage.value} pool")
            drained.set()
            await limit

    async def _limit_drain(self, stop: asyncio.Event, drained: asyncio.Event) -> None:
        """Hand back the batches that take longer than a stop may wait."""
        await first_of(stop.wait(), drained.wait())
        await wait_briefly(drained, self._drain_seconds)
        if not drained.is_set():
            logger.warning("not drained in {} s: what is in hand is handed back", self._drain_seconds)
            for pool in self._pools.values():
                pool.abort()


def initial_sizes(settings: Settings) -> dict[str, int]:
    """How many workers of each stage to start with; with auto-scaling on, within its limits."""
    return {stage.value: _initial_size(settings, stage) for stage in Stage}


def _initial_size(settings: Settings, stage: Stage) -> int:
    pool = settings.worker_pools.of(stage.value)
    if not settings.auto_scaling.enabled:
        return pool.workers
    return min(max(pool.workers, pool.min_workers), pool.max_workers)
