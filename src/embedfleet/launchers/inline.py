"""Runs workers as asyncio tasks in the orchestrator's process. This is the embedded mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.launchers.launcher import WorkerExit, WorkerSpec
from embedfleet.queue_schemas import Stage
from embedfleet.workers.worker import Worker


class InlineLauncher:
    """Starts workers that share this process, its models and its connections."""

    def __init__(self, builders: Mapping[Stage, Callable[[str], Worker]]) -> None:
        """`builders` holds, for each stage, the function that makes a worker with a given name."""
        self._builders = builders

    async def launch(self, spec: WorkerSpec) -> InlineWorker:
        return InlineWorker(spec, self._builders[spec.stage](spec.name))


class InlineWorker:
    """A worker that runs in this process."""

    def __init__(self, spec: WorkerSpec, worker: Worker) -> None:
        self.spec = spec
        self.placed = True
        self.ready = True
        self.ready_at = monotonic()
        self.reports = None
        self.memory_bytes = 0  # unknown, because all workers share the process
        self._worker = worker
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(worker.run(self._stop), name=spec.name)

    @property
    def trouble(self) -> EmbedfleetError | None:
        return self._worker.trouble

    @property
    def models(self) -> tuple[str, ...]:
        return self._worker.loaded_models

    def drain(self) -> None:
        self._stop.set()

    def abort(self) -> None:
        self._stop.set()
        self._task.cancel()

    async def wait(self) -> WorkerExit:
        await asyncio.wait([self._task])
        if self._task.cancelled():
            return WorkerExit(crashed=not self._stop.is_set(), reason="stopped at once")
        failure = self._task.exception()
        if failure is None:
            return WorkerExit(crashed=False, reason="drained")
        logger.opt(exception=failure).error("worker {} failed", self.spec.name)
        return WorkerExit(crashed=True, reason=repr(failure))
