"""A worker as a process of its own: `python -m embedfleet.worker_process`, started by an orchestrator.

Its order comes by standard input and its reports go to standard output, as frames (`launchers.channel`);
logs go to standard error, which is the orchestrator's. It never outlives its orchestrator: the kernel kills
it with its parent (Linux), and everywhere the end of standard input makes it drain and exit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

import psutil
import setproctitle
from loguru import logger

from embedfleet import log
from embedfleet.bootstrap import open_worker
from embedfleet.errors import EmbedfleetError, ModelStuck, Transient
from embedfleet.launchers.channel import Command, Failure, Order, Report, pack, receive, told
from embedfleet.lifetime import die_with_parent, end_process
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import snapshot
from embedfleet.settings import Settings
from embedfleet.waiting import wait_briefly
from embedfleet.workers.worker import Worker

_REPORT_SECONDS = 1.0
_OPEN_AGAIN_SECONDS = 1.0
_FAILED = 1


def main() -> int:
    """Exit code 0 after a drain, 1 when it could not go on (the reason is its last report)."""
    reports = _private_stdout()
    try:
        asyncio.run(_work(reports))
    except EmbedfleetError as exc:
        _send(reports, Failure(str(exc)))
        return _FAILED
    except Exception as exc:  # noqa: BLE001 - told to the orchestrator and logged; the exit code says it too
        logger.opt(exception=exc).error("worker failed")
        _send(reports, Failure(repr(exc)))
        return _FAILED
    return 0


async def _work(reports: BinaryIO) -> None:
    commands = await _stdin()
    order = await receive(commands)
    if not isinstance(order, Order):
        return  # the orchestrator went away before it said anything
    setproctitle.setproctitle(f"embedfleet: {order.name}")
    die_with_parent(order.parent_pid)
    settings = Settings.from_json(order.settings)
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metrics = Metrics(max_tenants=settings.monitoring.max_tenants)
    work = asyncio.create_task(_run(order, settings, metrics, reports, stop), name=order.name)
    obey = asyncio.create_task(_obey(commands, stop, work), name="commands")
    try:
        with suppress(asyncio.CancelledError):  # aborted: it has handed back what it held
            await work
    finally:
        obey.cancel()
        await asyncio.gather(obey, return_exceptions=True)


async def _run(
    order: Order, settings: Settings, metrics: Metrics, reports: BinaryIO, stop: asyncio.Event
) -> None:
    """Open what the worker needs, waiting for services that are away, and work until `stop`."""
    while not stop.is_set():
        try:
            async with open_worker(settings, order.stage, order.name, metrics) as worker:
                tell = asyncio.create_task(_tell(reports, worker, metrics, stop), name="reports")
                try:
                    await worker.run(stop)
                finally:
                    tell.cancel()
                    await asyncio.gather(tell, return_exceptions=True)
                    await asyncio.to_thread(_report, reports, worker, metrics)
                if worker.has_hung_model:
                    raise ModelStuck("a model hangs in this process: another takes its place")
        except Transient as exc:  # from opening only: a worker waits for its services itself
            logger.bind(worker=order.name).warning("waiting: {}", exc)
            _send(reports, Report(False, told(exc), 0, []))
            await wait_briefly(stop, _OPEN_AGAIN_SECONDS)


async def _obey(commands: asyncio.StreamReader, stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Do as told; when the orchestrator is gone, drain."""
    while (message := await receive(commands)) is not None:
        stop.set()
        if message is Command.ABORT:
            work.cancel()
    stop.set()


async def _tell(reports: BinaryIO, worker: Worker, metrics: Metrics, stop: asyncio.Event) -> None:
    """From a thread: an orchestrator that is slow to read must not hold up the work."""
    while True:
        await asyncio.to_thread(_report, reports, worker, metrics)
        if worker.has_hung_model:
            stop.set()
        await asyncio.sleep(_REPORT_SECONDS)


def _report(reports: BinaryIO, worker: Worker, metrics: Metrics) -> None:
    memory = psutil.Process().memory_info().rss
    counted = snapshot(metrics.registry)
    _send(reports, Report(True, told(worker.trouble), memory, counted, worker.loaded_models))


def _send(reports: BinaryIO, message: Report | Failure) -> None:
    """A reader that is gone is not missed: the end of standard input tells of it."""
    with suppress(BrokenPipeError):
        reports.write(pack(message))


def _private_stdout() -> BinaryIO:
    """The pipe to the orchestrator; what prints to standard output prints to standard error from now on."""
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
