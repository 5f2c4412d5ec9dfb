"""The worker orchestrator of a host. It starts everything, and stops everything in order.

Any number of hosts may run one on the same broker and database, each with pools of its own. One of them is
elected and has the duties of the leader too (`leader.duties`).

Shutdown order (`WorkerOrchestrator.run`):

1. The stop signal reaches the pools. Workers finish their claimed tasks, and hand back those that take too
long. 2. When every worker has ended, the services that serve the workers stop. 3. Last, the lead and the
registration are given up.

Work that is still queued then stays in SQL and in the broker. Other hosts do it, or this one after a start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from embedfleet.errors import EmbedfleetError
from embedfleet.host.host_pools import HostPools
from embedfleet.host.registration import Registration
from embedfleet.service import Service, run_services


class WorkerOrchestrator:
    """Runs the pools of this host and its services. `bootstrap` opens and closes what they use."""

    def __init__(
        self,
        *,
        pools: HostPools,
        registration: Registration,
        services: Sequence[Service],
        initial_sizes: Mapping[str, int],
    ) -> None:
        """`initial_sizes` is the number of workers of each stage at the start."""
        self._pools = pools
        self._registration = registration
        self._services = services
        self._initial_sizes = initial_sizes

    @property
    def trouble(self) -> EmbedfleetError | None:
        """The failure because of which work is put off now (disk full, store away); None if no work is."""
        return self._pools.trouble

    def resize(self, workers: Mapping[str, int]) -> None:
        """Set the number of workers of the named stages. Surplus workers drain."""
        self._pools.resize(workers)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain. If cancelled, hand back the tasks in hand and end at once."""
        # Before the first heartbeat, which tells others how many workers this host will have.
        self._pools.resize(self._initial_sizes)
        # The first heartbeat comes before anything else runs, because a duty asks whether this host leads.
        await self._registration.beat()
        workers_ended, services_ended = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._registration.run(services_ended), name=self._registration.name)
            try:
                async with asyncio.TaskGroup() as beside:
                    beside.create_task(run_services(self._services, workers_ended), name="services")
                    try:
                        await self._pools.run(stop)
                    finally:
                        workers_ended.set()  # after a defect too, so that no service outlives the workers
            finally:
                services_ended.set()
