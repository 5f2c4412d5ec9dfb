"""The duty that ends shadow runs, and deletes what they left."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.sql.database import Database
from embedfleet.traffic.shadow_ending import shadow_step

ENDING_SECONDS = 1.0
"""The pause between two looks. A run that has enough requests goes on that much longer, which is harmless."""


class ShadowEnding(LeaderDuty):
    """Ends the shadow run whose rule is decided or whose time is over."""

    name: ClassVar = "shadow ending"
    works_again: ClassVar = "shadow runs are ended again"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def step(self) -> None:
        await shadow_step(self._database, self._clock)
