"""The orchestrator, started and stopped as code written for tldw_server does it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from loguru import logger

from embedfleet import log
from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.errors import InvalidRequest
from embedfleet.metrics.server import MonitoringServer
from embedfleet.settings import Settings
from embedfleet.tldw.job_manager import EmbeddingJobManager
from embedfleet.tldw.job_manager import JobManagerConfig as JobsConfig
from embedfleet.tldw.settings import load_orchestrator_settings
from embedfleet.tldw.worker_config import OrchestrationConfig, WorkerPoolConfig


class WorkerOrchestrator:
    """Runs the pools of tldw's configuration, over the settings that every command of embedfleet has.

    What has no counterpart is logged at the start, a line each. The workers are those of embedfleet, so
    `pools` tells only what was asked for.
    """

    def __init__(self, config: OrchestrationConfig) -> None:
        self.config = config
        self.pools: Mapping[str, WorkerPoolConfig] = dict(config.worker_pools)
        self.job_manager: EmbeddingJobManager | None = None
        self.running = False
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    async def start(self) -> None:
        """Work until `stop` is called, or SIGTERM or Ctrl-C comes; then drain, and return.

        Raises InvalidRequest if it runs already. Otherwise it raises as `bootstrap.open_owner` does.
        """
        if not self._ended.is_set():
            raise InvalidRequest("the orchestrator runs already: stop it first")
        self._ended.clear()
        self._stop.clear()
        try:
            await self._run(self._settings())
        finally:
            self.running, self.job_manager = False, None
            self._ended.set()

    async def stop(self) -> None:
        """Let the workers finish what they have in hand, and return when they have ended."""
        self._stop.set()
        await self._ended.wait()

    def _settings(self) -> Settings:
        translation = self.config.translated()
        settings = load_orchestrator_settings(translation)
        log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
        for warning in translation.warnings:
            logger.warning("no counterpart: {}", warning)
        return settings

    async def _run(self, settings: Settings) -> None:
        async with open_owner(settings, purpose="worker orchestrator") as owner:
            parts: dict[str, Any] = {"database": owner.database, "catalogue": owner.catalogue}
            jobs = EmbeddingJobManager(JobsConfig(settings=settings), **parts, searches=owner.search)
            async with jobs:
                with _monitoring(owner), _stopped_by_signals(self._stop):
                    self.job_manager, self.running = jobs, True
                    await owner.orchestrator.run(self._stop)


@contextmanager
def _monitoring(owner: OwnerSystem) -> Iterator[None]:
    monitoring = owner.settings.monitoring
    if not monitoring.metrics_port:
        yield
        return
    server = MonitoringServer(
        owner.collector, owner.health, host=monitoring.metrics_host, port=monitoring.metrics_port
    )
    try:
        yield
    finally:
        server.close()


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at SIGTERM and Ctrl-C. Only a main thread's event loop hears signals, and not on Windows."""
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
            heard.append(number)
    except (NotImplementedError, RuntimeError, ValueError):
        logger.debug("signals do not stop this orchestrator: call stop()")
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
