"""The duty that climbs by the plan under way, and falls back when a step is above a limit."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.sql.database import Database
from embedfleet.traffic.guarding import guard_step


class TrafficGuard(LeaderDuty):
    """Judges the present step of the plan. Without a plan, a look is one row."""

    name: ClassVar = "traffic guard"
    works_again: ClassVar = "the plan of the traffic is looked after again"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def step(self) -> None:
        await guard_step(self._database, self._clock)
