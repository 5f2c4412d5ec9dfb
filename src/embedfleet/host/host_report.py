"""The reports of a host: to the other orchestrators through SQL, and to its supervisor by `/readyz`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from embedfleet.host.host_pools import HostPools
from embedfleet.host.pool import PoolState
from embedfleet.host.scaler import Scaler
from embedfleet.metrics.server import Health
from embedfleet.queue_schemas import Stage
from embedfleet.records.fleet import PoolReport
from embedfleet.searching.search import SearchService
from embedfleet.settings import Settings
from embedfleet.trouble import Trouble
from embedfleet.waiting import repeat

_HEALTH_SECONDS = 1.0


class PoolReports:
    """The pools of this host as the other orchestrators see them."""

    def __init__(
        self, pools: HostPools, *, scaler: Scaler, search: SearchService | None, settings: Settings
    ) -> None:
        """`search` is None in a process that answers no searches."""
        self._pools = pools
        self._scaler = scaler
        self._search = search
        self._settings = settings

    def now(self) -> Mapping[str, PoolReport]:
        """Return a report of each pool, by stage."""
        return {state.stage.value: self._report(state) for state in self._pools.states()}

    def _report(self, state: PoolState) -> PoolReport:
        rate = self._scaler.rate(state.stage)
        return PoolReport(
            workers=state.running,
            target=state.target,
            most=self._most(state),
            draining=state.draining,
            waiting=state.waiting,
            waits_for=None if state.waits_for is None else str(state.waits_for),
            # The rate has two digits only: a report that changes is written to SQL at the next heartbeat.
            rate=None if rate is None else float(f"{rate:.2g}"),
            trouble=state.crash_loop or (None if state.trouble is None else str(state.trouble)),
            models=self._models(state),
            sized_elsewhere=self._settings.orchestrator.launcher == "none",
        )

    def _models(self, state: PoolState) -> tuple[str, ...]:
        """Return the models that the workers have loaded, and those that this process loaded for searches."""
        if self._search is None or state.stage is not Stage.EMBEDDING:
            return state.models
        return tuple(sorted({*state.models, *self._search.loaded_models}))

    def _most(self, state: PoolState) -> int:
        if self._settings.auto_scaling.enabled:
            return self._settings.worker_pools.of(state.stage.value).max_workers
        return state.target


class HealthReport:
    """Tells `Health` once a second that the event loop runs, and which obstacles there are. A `Service`."""

    name: ClassVar = "health"

    def __init__(self, health: Health, pools: HostPools, troubles: Sequence[Trouble]) -> None:
        """`troubles` are those of the parts without which no work gets done."""
        self._health = health
        self._pools = pools
        self._troubles = troubles

    async def run(self, stop: asyncio.Event) -> None:
        """Report until `stop` is set; then say that the host is stopping."""

        async def report() -> None:
            self._health.beat(list(self._obstacles()))

        await repeat(stop, report, seconds=_HEALTH_SECONDS)
        self._health.beat(["stopping"])

    def _obstacles(self) -> Iterable[str]:
        for trouble in self._troubles:
            if trouble.failure is not None:
                yield str(trouble.failure)
        for state in self._pools.states():
            if state.crash_loop is not None:
                yield f"{state.stage.value} workers crash again and again: {state.crash_loop}"
            elif state.trouble is not None:
                yield f"{state.stage.value} workers are waiting: {state.trouble}"
            elif state.target and not state.ready:
                yield f"no {state.stage.value} worker has started yet"
