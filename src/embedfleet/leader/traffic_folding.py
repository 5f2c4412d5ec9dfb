"""The duty that makes one row of an hour's counts of traffic, and drops those of long ago."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.records import traffic_counts
from embedfleet.sql.database import Database
from embedfleet.traffic.counting import FOLDED_SECONDS

FOLD_SECONDS = 600.0
"""The pause between two looks. Until then there are a few hundred rows more."""
# Processes write the counts of a slice for half an hour at the most (`traffic.counting`).
_WRITTEN_SECONDS = 3_600
# A year and a month: a year can be compared with the one before.
_KEPT_SECONDS = 400 * 86_400.0
_ROWS_PER_UNIT = 100
"""The most rows that one transaction makes, so that others need not wait long for it."""


class TrafficFolding(LeaderDuty):
    """Keeps the table of counts small: it has a row an hour for each path and change."""

    name: ClassVar = "traffic folding"
    rests_first: ClassVar = True  # a start has more urgent things to do
    works_again: ClassVar = "counts of traffic are folded again"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def step(self) -> None:
        now = self._clock.now()
        before = int(now - _WRITTEN_SECONDS) // FOLDED_SECONDS * FOLDED_SECONDS
        while await self._database.write(
            lambda conn: traffic_counts.fold(
                conn, before=before, into_seconds=FOLDED_SECONDS, limit=_ROWS_PER_UNIT
            )
        ):
            pass
        await self._database.write(lambda conn: traffic_counts.drop_old(conn, before=now - _KEPT_SECONDS))

    def pause_after_failure_seconds(self) -> float:
        """Wait as long as after a success: rows that stay for some minutes more do no harm."""
        return FOLD_SECONDS
