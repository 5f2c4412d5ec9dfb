"""The contract of a service, which runs from its start until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol


class Service(Protocol):
    """One part of a process that runs from its start until it is told to stop.

    The contract follows `startstop.Service` of riverqueue/river, in asyncio's terms.
    """

    @property
    def name(self) -> str:
        """The name of the service in logs and in the list of asyncio tasks."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the step in hand and release everything.

        If a database or a server is away, the service waits for it. An exception that it raises is a defect.
        If it is cancelled, it ends at once.
        """
        ...


async def run_services(services: Iterable[Service], stop: asyncio.Event) -> None:
    """Run all services until each has ended. A defect in one cancels the others and is raised here."""
    async with asyncio.TaskGroup() as tasks:
        for service in services:
            tasks.create_task(service.run(stop), name=service.name)
