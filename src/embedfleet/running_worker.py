"""Runs one worker in a process of its own, whatever started that process.

`worker_process` does it for the process launcher and `ray_driver.consumer` for Ray. The worker waits for
services that are away, and reports its state and its counts every second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil
from loguru import logger

from embedfleet.bootstrap import open_worker
from embedfleet.errors import ModelStuck, Transient
from embedfleet.launchers.channel import Order, Report, pack_trouble
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import snapshot
from embedfleet.metrics.processor import ProcessorTime
from embedfleet.settings import Settings
from embedfleet.trouble import Trouble
from embedfleet.waiting import repeat, wait_briefly
from embedfleet.workers.worker import Worker

# The pause between two reports. A crash loses the counts of the worker since its last report.
_REPORT_SECONDS = 1.0
# The pause before a worker tries again to open the services it needs.
_OPEN_AGAIN_SECONDS = 1.0

Send = Callable[[Report], None]
"""Sends a report to the orchestrator. It may block: a thread calls it."""


async def run_worker(order: Order, settings: Settings, send: Send, stop: asyncio.Event) -> None:
    """Open what the worker needs, wait for services that are away, and work until `stop` is set.

    If cancelled, the worker hands back its tasks first. Raises ModelStuck if a model hangs in this process,
    and what else ends a worker.
    """
    metrics = Metrics(max_tenants=settings.monitoring.max_tenants)
    processor = ProcessorTime(metrics, order.stage.value)
    trouble = Trouble(log=logger.bind(worker=order.name))
    while not stop.is_set():
        try:
            async with open_worker(settings, order.stage, order.name, metrics) as worker:
                trouble.clear()
                async with _reporting(send, worker, metrics, processor, stop):
                    await worker.run(stop)
                if worker.has_hung_model:
                    raise ModelStuck("a model hangs in this process: another takes its place")
        except Transient as exc:  # only opening raises it: an open worker waits by itself
            trouble.note(exc)
            await asyncio.to_thread(send, Report(False, pack_trouble(exc), 0, []))
            await wait_briefly(stop, _OPEN_AGAIN_SECONDS)


@asynccontextmanager
async def _reporting(
    send: Send, worker: Worker, metrics: Metrics, processor: ProcessorTime, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Report every second until the end of the block, also while the worker drains. Then report once more.

    A thread sends the reports, so that an orchestrator that is slow to read does not hold up the work.
    """
    ended = asyncio.Event()

    async def report() -> None:
        await asyncio.to_thread(_report, send, worker, metrics, processor)
        if worker.has_hung_model:
            stop.set()

    reporting = asyncio.create_task(repeat(ended, report, seconds=_REPORT_SECONDS), name="reports")
    try:
        yield
    finally:
        # The report in progress must end before the last one begins: a cancelled task would leave its thread
        # writing, and two threads would mix their frames in the pipe.
        ended.set()
        await asyncio.gather(reporting, return_exceptions=True)
        await asyncio.to_thread(_report, send, worker, metrics, processor)


def _report(send: Send, worker: Worker, metrics: Metrics, processor: ProcessorTime) -> None:
    processor.count()
    memory = psutil.Process().memory_info().rss
    counted = snapshot(metrics.registry)
    send(Report(True, pack_trouble(worker.trouble), memory, counted, worker.loaded_models))
