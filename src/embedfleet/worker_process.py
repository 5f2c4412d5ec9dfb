"""The program of a worker process: `python -m embedfleet.worker_process`. An orchestrator starts it.

It reads its order from standard input and writes its reports to standard output, as frames
(`launchers.channel`). Logs go to standard error, which it shares with the orchestrator. It never outlives the
orchestrator: the kernel kills it with its parent (Linux), and on every system the end of standard input makes
it drain and exit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import BinaryIO

import psutil
import setproctitle
from loguru import logger

from embedfleet import log
from embedfleet.bootstrap import open_worker
from embedfleet.errors import EmbedfleetError, ModelStuck, Transient
from embedfleet.launchers.channel import Command, Failure, Order, Report, pack, pack_trouble, receive
from embedfleet.lifetime import die_with_parent, end_process
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import snapshot
from embedfleet.settings import Settings
from embedfleet.trouble import Trouble
from embedfleet.waiting import cancel_and_wait, repeat, wait_briefly
from embedfleet.workers.worker import Worker

# The pause between two reports. A crash loses the counts of the worker since its last report.
_REPORT_SECONDS = 1.0
# The pause before a worker tries again to open the services it needs.
_OPEN_AGAIN_SECONDS = 1.0
_FAILED = 1


def main() -> int:
    """Run the worker, and return the exit code: 0 after a drain, 1 if it could not go on.

    In the second case the last message to the orchestrator is a `Failure` with the reason.
    """
    reports = _private_stdout()
    try:
        asyncio.run(_work(reports))
    except EmbedfleetError as exc:
        _send(reports, Failure(str(exc)))
        return _FAILED
    except Exception as exc:  # noqa: BLE001 - reported, logged, and in the exit code
        logger.opt(exception=exc).error("worker failed")
        _send(reports, Failure(repr(exc)))
        return _FAILED
    return 0


async def _work(reports: BinaryIO) -> None:
    commands = await _stdin()
    order = await receive(commands)
    if not isinstance(order, Order):
        return  # the orchestrator ended before it sent an order
    setproctitle.setproctitle(f"embedfleet: {order.name}")
    die_with_parent(order.parent_pid)
    settings = Settings.from_json(order.settings)
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metrics = Metrics(max_tenants=settings.monitoring.max_tenants)
    work = asyncio.create_task(_run(order, settings, metrics, reports, stop), name=order.name)
    commanded = asyncio.create_task(_obey(commands, stop, work), name="commands")
    try:
        with suppress(asyncio.CancelledError):  # the worker was aborted and has handed back its tasks
            await work
    finally:
        await cancel_and_wait(commanded)


async def _run(
    order: Order, settings: Settings, metrics: Metrics, reports: BinaryIO, stop: asyncio.Event
) -> None:
    """Open what the worker needs, wait for services that are away, and work until `stop`."""
    trouble = Trouble(log=logger.bind(worker=order.name))
    while not stop.is_set():
        try:
            async with open_worker(settings, order.stage, order.name, metrics) as worker:
                trouble.clear()
                async with _reporting(reports, worker, metrics, stop):
                    await worker.run(stop)
                if worker.has_hung_model:
                    raise ModelStuck("a model hangs in this process: another takes its place")
        except Transient as exc:  # only opening raises it: an open worker waits by itself
            trouble.note(exc)
            _send(reports, Report(False, pack_trouble(exc), 0, []))
            await wait_briefly(stop, _OPEN_AGAIN_SECONDS)


async def _obey(commands: asyncio.StreamReader, stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Follow the commands, and drain if the orchestrator has ended."""
    while (message := await receive(commands)) is not None:
        stop.set()
        if message is Command.ABORT:
            work.cancel()
    stop.set()


@asynccontextmanager
async def _reporting(
    reports: BinaryIO, worker: Worker, metrics: Metrics, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Report every second until the end of the block, also while the worker drains. Then report once more.

    A thread writes the reports, so that an orchestrator that is slow to read does not hold up the work.
    """
    ended = asyncio.Event()

    async def report() -> None:
        await asyncio.to_thread(_report, reports, worker, metrics)
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
        await asyncio.to_thread(_report, reports, worker, metrics)


def _report(reports: BinaryIO, worker: Worker, metrics: Metrics) -> None:
    memory = psutil.Process().memory_info().rss
    counted = snapshot(metrics.registry)
    _send(reports, Report(True, pack_trouble(worker.trouble), memory, counted, worker.loaded_models))


def _send(reports: BinaryIO, message: Report | Failure) -> None:
    """Write a message. If the reader has ended, do nothing: the end of standard input shows that too."""
    with suppress(BrokenPipeError):
        reports.write(pack(message))


def _private_stdout() -> BinaryIO:
    """Return the pipe to the orchestrator. From now on, prints to standard output go to standard error."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb", buffering=0)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


if __name__ == "__main__":
    end_process(main())
