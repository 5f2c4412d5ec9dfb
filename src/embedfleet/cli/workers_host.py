"""Workers for a command that submits jobs: those of a running orchestrator, or its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from embedfleet.bootstrap import OwnerSystem, open_guest, open_owner
from embedfleet.clock import SystemClock
from embedfleet.data_directory import owner_of
from embedfleet.deployment import deployment_of
from embedfleet.errors import DataDirectoryInUse, EmbedfleetError
from embedfleet.records import fleet
from embedfleet.records.fleet import RunningOrchestrator
from embedfleet.settings import Settings
from embedfleet.waiting import repeat, wait_briefly

_LOOK_AGAIN_SECONDS = 0.5


class WorkersHost:
    """Embedded: owns the data directory and works while no other process does.

    So a command that found an owner carries on by itself if that owner stops before the work is done. In a
    fleet the work is left to its orchestrators; if none is running, that is announced and waited for.
    """

    def __init__(self, settings: Settings, *, purpose: str, announce: Callable[[str], None]) -> None:
        self._settings = settings
        self._purpose = purpose
        self._announce = announce
        self._system: OwnerSystem | None = None

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why the workers of this process put off their work; None if they do not."""
        return None if self._system is None else self._system.orchestrator.trouble

    async def run(self, stop: asyncio.Event) -> None:
        """Have workers at work until `stop` is set; then drain those of this process."""
        if deployment_of(self._settings).shared_broker:
            await self._leave_it_to_the_fleet(stop)
        else:
            await self._own_or_wait(stop)

    async def _leave_it_to_the_fleet(self, stop: asyncio.Event) -> None:
        announced: str | None = None
        async with open_guest(self._settings) as guest:

            async def announce_changes() -> None:
                nonlocal announced
                now = SystemClock().now()
                words = _who_works(await guest.database.read(lambda conn: fleet.running(conn, now)))
                if words != announced:
                    self._announce(words)
                    announced = words

            await repeat(stop, announce_changes, seconds=_LOOK_AGAIN_SECONDS)

    async def _own_or_wait(self, stop: asyncio.Event) -> None:
        announced = False
        while not stop.is_set():
            try:
                async with open_owner(self._settings, purpose=self._purpose) as self._system:
                    await self._system.orchestrator.run(stop)
            except DataDirectoryInUse:
                owner = owner_of(self._settings.data_dir)
                if owner is not None and not announced:
                    self._announce(f"working through process {owner.pid} ({owner.purpose}), which is running")
                    announced = True
                await wait_briefly(stop, _LOOK_AGAIN_SECONDS)
            finally:
                self._system = None


def _who_works(found: Sequence[RunningOrchestrator]) -> str:
    if not found:
        return "no orchestrator is running, the work waits for one: `embedfleet serve-workers`"
    return f"working through the fleet ({', '.join(sorted({one.host for one in found}))})"
