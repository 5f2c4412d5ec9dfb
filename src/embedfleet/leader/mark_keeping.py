"""The duty that keeps the mark of this system in a shared broker."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.errors import BrokerUnavailable
from embedfleet.leader.service import LeaderDuty
from embedfleet.queue.broker import Broker
from embedfleet.records import systems
from embedfleet.sql.database import Database
from embedfleet.system_parts import Mark, PartKind

LOOK_SECONDS = 1.0
"""The pause between two looks. A host that joins waits for the mark that an emptied broker has lost."""


class MarkKeeping(LeaderDuty):
    """Marks a broker again that lost its memory, and notices if it is the broker of another system by now."""

    name: ClassVar = "mark of the broker"
    works_again: ClassVar = "the broker carries the mark of this system again"

    def __init__(self, *, broker: Broker, database: Database) -> None:
        self._broker = broker
        self._database = database
        self._mark: Mark | None = None

    async def step(self) -> None:
        if self._mark is None:
            self._mark = await self._recorded()
        if self._mark is None:
            return
        held = Mark.from_text(await self._broker.claim_mark(self._mark.to_text()))
        if (held.system_id, held.part_id) != (self._mark.system_id, self._mark.part_id):
            raise BrokerUnavailable(
                f"the queues carry the mark of another system ({held.system_id}, with the database "
                f"{held.database}): two systems cannot share them, so stop one of the two"
            )

    async def _recorded(self) -> Mark | None:
        """Return the mark by what SQL records. It does not change while an orchestrator runs."""
        system = await self._database.read(systems.recorded)
        if system is None or PartKind.QUEUES not in system.parts:
            return None
        return Mark(system.system_id, system.parts[PartKind.QUEUES].part_id, self._database.location)
