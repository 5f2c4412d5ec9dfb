"""The program of a worker process: `python -m embedfleet.worker_process`. An orchestrator starts it.

It reads its order from standard input and writes its reports to standard output, as frames
(`launchers.channel`). Logs go to standard error, which it shares with the orchestrator. It never outlives the
orchestrator: the kernel kills it with its parent (Linux), and on every system the end of standard input makes
it drain and exit.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from functools import partial
from typing import BinaryIO

import setproctitle
from loguru import logger

from embedfleet import log
from embedfleet.errors import EmbedfleetError
from embedfleet.framing import parent_input, parent_output
from embedfleet.launchers.channel import Command, Failure, Order, Report, pack, receive
from embedfleet.lifetime import die_with_parent, end_process
from embedfleet.running_worker import run_worker
from embedfleet.settings import Settings
from embedfleet.waiting import cancel_and_wait

_FAILED = 1


def main() -> int:
    """Run the worker, and return the exit code: 0 after a drain, 1 if it could not go on.

    In the second case the last message to the orchestrator is a `Failure` with the reason.
    """
    reports = parent_output()
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
    commands = await parent_input()
    order = await receive(commands)
    if not isinstance(order, Order):
        return  # the orchestrator ended before it sent an order
    setproctitle.setproctitle(f"embedfleet: {order.name}")
    die_with_parent(order.parent_pid)
    settings = Settings.from_json(order.settings)
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    work = asyncio.create_task(run_worker(order, settings, partial(_send, reports), stop), name=order.name)
    commanded = asyncio.create_task(_obey(commands, stop, work), name="commands")
    try:
        with suppress(asyncio.CancelledError):  # the worker was aborted and has handed back its tasks
            await work
    finally:
        await cancel_and_wait(commanded)


async def _obey(commands: asyncio.StreamReader, stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Follow the commands, and drain if the orchestrator has ended."""
    while (message := await receive(commands)) is not None:
        stop.set()
        if message is Command.ABORT:
            work.cancel()
    stop.set()


def _send(reports: BinaryIO, message: Report | Failure) -> None:
    """Write a message. If the reader has ended, do nothing: the end of standard input shows that too."""
    with suppress(BrokenPipeError):
        reports.write(pack(message))


if __name__ == "__main__":
    end_process(main())
