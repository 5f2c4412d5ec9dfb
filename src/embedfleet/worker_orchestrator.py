"""The worker orchestrator of a host: starts everything, and stops everything in order.

Any number of hosts may run one against the same broker and database. One of them, elected, does what only a
leader does (`leader.duties`); each has pools of its own.

Shutdown order (`WorkerOrchestrator.run`):

1. The stop signal reaches the pools. Workers finish what they claimed; what takes too long is handed back.
2. When every worker has ended, the services that serve the workers stop.
3. Last, the lead and the registration are given up.

What is still queued then is unfinished in SQL and in the broker. Other hosts take it up, or the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from embedfleet.errors import EmbedfleetError
from embedfleet.host.host_pools import HostPools
from embedfleet.host.pool import PoolState
from embedfleet.host.registration import Registration
from embedfleet.service import Service, run_services


class WorkerOrchestrator:
    """Runs the pools of this host, and the services beside them. `bootstrap` builds and closes its parts."""

    def __init__(
        self,
        *,
        pools: HostPools,
        registration: Registration,
        services: Sequence[Service],
        initial_sizes: Mapping[str, int],
    ) -> None:
        """`initial_sizes`: how many workers of each stage to start with."""
        self._pools = pools
        self._registration = registration
        self._services = services
        self._initial_sizes = initial_sizes

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off at the moment (disk full, store away), if it is."""
        return self._pools.trouble

    def states(self) -> list[PoolState]:
        """Every pool as it is now."""
        return self._pools.states()

    def resize(self, workers: Mapping[str, int]) -> None:
        """Set the number of workers of the named stages; surplus workers drain."""
        self._pools.resize(workers)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain; cancelled, hand back what is in hand and end at once."""
        await self._registration.beat()  # before anything runs: from here on it is known who leads
        self._pools.resize(self._initial_sizes)
        workers_ended, services_ended = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._registration.run(services_ended), name=self._registration.name)
            try:
                async with asyncio.TaskGroup() as beside:
                    beside.create_task(run_services(self._services, workers_ended), name="services")
                    try:
                        await self._pools.run(stop)
                    finally:
                        workers_ended.set()  # also after a defect: services must not outlive the workers
            finally:
                services_ended.set()
