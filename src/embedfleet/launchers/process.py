"""Runs each worker of a fleet in its own process.

A worker process dies with its orchestrator (see `worker_process`). The orchestrator survives the crash of a
worker, which its pool sees as an exit. The signals of a terminal do not reach a worker process, so only the
orchestrator ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence

from loguru import logger

from embedfleet import child_environment
from embedfleet.launchers.channel import Command, Failure, Order, Report, pack, receive
from embedfleet.launchers.launcher import WorkerExit, WorkerSpec
from embedfleet.launchers.reported import ReportedWorker
from embedfleet.metrics.merging import MergedCollector
from embedfleet.settings import Settings

# An aborted worker is killed after this time. It needs two seconds at most to hand back its tasks.
_ABORT_SECONDS = 5.0
# A process whose pipe has ended is killed after this time.
_END_SECONDS = 5.0


class ProcessLauncher:
    """Starts worker processes, and adds their metrics to those of the host."""

    def __init__(self, command: Sequence[str], settings: Settings, collector: MergedCollector) -> None:
        """`command` runs a worker process, e.g. `python -m …`; it reads its `Order` from standard input."""
        self._command = command
        self._settings = settings
        self._collector = collector

    async def launch(self, spec: WorkerSpec) -> ProcessWorker:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            env=_environment(spec),
            # Ctrl-C in a terminal reaches the orchestrator alone, which then drains its workers in order.
            start_new_session=True,
        )
        settings = self._settings
        if spec.threads:
            models = settings.models.model_copy(update={"threads": spec.threads})
            settings = settings.model_copy(update={"models": models})
        worker = ProcessWorker(spec, process, self._collector)
        worker.send(Order(spec.stage, spec.name, settings.to_json(), os.getpid()))
        return worker


class ProcessWorker(ReportedWorker):
    """A running worker process."""

    def __init__(self, spec: WorkerSpec, process: Process, collector: MergedCollector) -> None:
        super().__init__(spec, collector, f"{spec.name} {process.pid}")
        self._process = process
        self._told_to_end = False
        self._killing: asyncio.Task[None] | None = None
        self._ended = asyncio.create_task(self._receive_reports(), name=f"follow {spec.name}")

    def send(self, message: Order | Command) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # the process has ended: `wait` reports it
            self._process.stdin.write(pack(message))

    def drain(self) -> None:
        # Before the command: a worker that ends by itself at this moment was meant to end.
        self._told_to_end = True
        self.send(Command.DRAIN)

    def abort(self) -> None:
        self._told_to_end = True
        self.send(Command.ABORT)
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill_if_it_stays(), name=f"kill {self.spec.name}")

    async def wait(self) -> WorkerExit:
        # Shielded: a caller that is cancelled must not stop the reading of reports, or the pipe fills.
        return await asyncio.shield(self._ended)

    async def _kill_if_it_stays(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._ended), _ABORT_SECONDS)
            return
        logger.warning("worker {} did not stop in {} s: killed", self.spec.name, _ABORT_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _receive_reports(self) -> WorkerExit:
        """Read the reports of the worker until it has ended, and return how it ended."""
        assert self._process.stdout is not None
        while (message := await receive(self._process.stdout)) is not None:
            if isinstance(message, Report | Failure):
                self.take(message)
        # The pipe ends before the process does, and its end says nothing about why. A process that has sent
        # nonsense, or has closed its pipe, may not end by itself.
        try:
            code = await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self.failure_reason = self.failure_reason or "it closed its pipe, or reported what is no message"
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            code = await self._process.wait()
        self.no_more_reports()
        crashed = code != 0 and not self._told_to_end
        return WorkerExit(crashed=crashed, reason=self.failure_reason or _exit_text(code))


def _environment(spec: WorkerSpec) -> Mapping[str, str]:
    """Return the environment of a worker: no settings, and only its own device."""
    kept = child_environment.without_settings()
    if spec.device is not None:
        kept["CUDA_VISIBLE_DEVICES"] = spec.device.removeprefix("cuda:")
    return kept


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
