"""The contract of everything that runs beside the work: one start, one stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol


class Service(Protocol):
    """One part of a process that runs from its start until it is told to stop.

    The contract is that of `startstop.Service` of riverqueue/river, in asyncio's terms.
    """

    @property
    def name(self) -> str:
        """What it is called in logs and in the list of tasks."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the step in hand and release everything.

        A service that is away is waited for; what is raised is a defect. Cancelled, it ends at once.
        """
        ...


async def run_services(services: Iterable[Service], stop: asyncio.Event) -> None:
    """Run all of them until each has ended. A defect in one cancels the others and passes through."""
    async with asyncio.TaskGroup() as tasks:
        for service in services:
            tasks.create_task(service.run(stop), name=service.name)
