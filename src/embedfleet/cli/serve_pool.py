"""`embedfleet serve-workers --launcher none --pool POOL`: this process is one worker of one pool.

What started it restarts it and decides how many there are: Kubernetes, systemd, a scheduler of jobs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from embedfleet.cli.output import say

if TYPE_CHECKING:
    from embedfleet.bootstrap import PoolWorkerSystem
    from embedfleet.inference.pool import ModelPool
    from embedfleet.metrics import Metrics
    from embedfleet.metrics.merging import MergedCollector
    from embedfleet.metrics.server import Health
    from embedfleet.queue_schemas import Stage
    from embedfleet.settings import Settings

_LOOK_AGAIN_SECONDS = 1.0
# What is being opened when the process is told to stop is given this long to end.
_CANCEL_SECONDS = 2.0


async def serve_pool(settings: Settings, stage: Stage) -> None:
    """Work until SIGTERM or Ctrl-C, then drain. A second signal hands back what is in hand at once.

    Services that are away are waited for, and `/readyz` names them. Raises ModelStuck if a model hangs: only
    the end of the process frees its thread and memory.
    """
    from loguru import logger

    from embedfleet.cli.interrupts import stop_on_signal
    from embedfleet.errors import ModelStuck
    from embedfleet.metrics import Metrics
    from embedfleet.metrics.merging import MergedCollector
    from embedfleet.metrics.server import Health
    from embedfleet.waiting import cancel_and_wait

    stop = asyncio.Event()
    metrics = Metrics(max_tenants=settings.monitoring.max_tenants)
    collector = MergedCollector(metrics.registry, max_tenants=settings.monitoring.max_tenants)
    health = Health()
    # The port first: what started this process asks from now on whether it lives, however long a model loads.
    with stop_on_signal(stop), monitored(settings, collector, health) as address:
        say(f"embedfleet {stage.value} worker, pid {os.getpid()}")
        say(f"  metrics   {address}")
        async with _opened(settings, stage, stop, metrics, collector, health) as system:
            if system is None:
                return
            watching = asyncio.create_task(_watch_models(system.models, stop), name="model watch")
            say("ready: SIGTERM or Ctrl-C drains and stops")
            try:
                await system.orchestrator.run(stop)
            finally:
                await cancel_and_wait(watching)
            if system.models is not None and system.models.stuck_runners:
                raise ModelStuck("a model hangs in this process: another process must take its place")
        logger.info("drained and stopped")


@asynccontextmanager
async def _opened(
    settings: Settings,
    stage: Stage,
    stop: asyncio.Event,
    metrics: Metrics,
    collector: MergedCollector,
    health: Health,
) -> AsyncIterator[PoolWorkerSystem | None]:
    """Open the worker's parts, and wait for services that are away. None if the stop signal comes first."""
    from contextlib import AsyncExitStack

    from loguru import logger

    from embedfleet.bootstrap import open_pool_worker
    from embedfleet.errors import Transient
    from embedfleet.trouble import Trouble
    from embedfleet.waiting import cancel_and_wait, repeat, wait_briefly

    trouble = Trouble(log=logger.bind(stage=stage.value))

    async def beat() -> None:
        health.beat([str(trouble.failure or f"the {stage.value} worker is starting")])

    async with AsyncExitStack() as stack:
        beating = asyncio.create_task(repeat(stop, beat, seconds=_LOOK_AGAIN_SECONDS), name="starting")
        system = None
        try:
            while system is None and not stop.is_set():
                opening = open_pool_worker(
                    settings, stage, metrics=metrics, collector=collector, health=health
                )
                try:
                    system = await _opened_unless_stopped(stop, stack.enter_async_context(opening))
                except Transient as exc:
                    trouble.note(exc)
                    await wait_briefly(stop, _LOOK_AGAIN_SECONDS)
            trouble.clear()
        finally:
            await cancel_and_wait(beating)
        yield system


async def _opened_unless_stopped(
    stop: asyncio.Event, opening: Coroutine[Any, Any, PoolWorkerSystem]
) -> PoolWorkerSystem | None:
    """Return what has been opened; None if `stop` is set before and the opening could be cancelled.

    Nothing is in hand yet. So if it cannot be cancelled soon, as the thread that loads a model cannot, the
    process ends as it is.
    """
    from loguru import logger

    from embedfleet.lifetime import end_process
    from embedfleet.waiting import first_of

    task = asyncio.create_task(opening, name="open")
    await first_of(asyncio.wait([task]), stop.wait())
    if not task.done():
        task.cancel()
        if not (await asyncio.wait([task], timeout=_CANCEL_SECONDS))[0]:
            logger.info("stopped while it was starting")
            end_process(0)
    return None if task.cancelled() else task.result()


async def _watch_models(models: ModelPool | None, stop: asyncio.Event) -> None:
    """Stop the process if a call of a model hangs."""
    from embedfleet.waiting import wait_briefly

    while models is not None and not stop.is_set():
        if models.stuck_runners:
            stop.set()
        await wait_briefly(stop, _LOOK_AGAIN_SECONDS)


@contextmanager
def monitored(settings: Settings, collector: MergedCollector, health: Health) -> Iterator[str]:
    """Serve the monitoring port during the block, if it is on. Yields its address, or `off`."""
    from embedfleet.metrics.server import MonitoringServer

    monitoring = settings.monitoring
    if not monitoring.metrics_port:
        yield "off"
        return
    server = MonitoringServer(collector, health, host=monitoring.metrics_host, port=monitoring.metrics_port)
    try:
        yield f"http://{monitoring.metrics_host}:{server.port}/metrics"
    finally:
        server.close()
