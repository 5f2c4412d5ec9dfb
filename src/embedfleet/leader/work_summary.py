"""The duty that sums up in the log, every few minutes, how much work was done and how much is left."""

from __future__ import annotations

from typing import ClassVar

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.records import events, job_counts
from embedfleet.records.events import EndedJobs
from embedfleet.records.job_counts import Unfinished
from embedfleet.sql.database import Database

SUMMARY_SECONDS = 300.0
"""The pause between two summaries."""


class WorkSummary(LeaderDuty):
    """Logs one line if jobs ended since the line before, or if jobs are unfinished."""

    name: ClassVar = "work summary"
    works_again: ClassVar = "work is summed up again"

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # The last position that was summed up, and when; None before the first step.
        self._told: tuple[int, float] | None = None

    async def step(self) -> None:
        """Sum up what ended since the step before. The first step has nothing to compare with."""
        before, now = self._told, self._clock.now()

        def look(conn: Connection) -> tuple[int, EndedJobs | None, Unfinished]:
            last = events.last_position(conn)
            ended = None if before is None else events.ended_between(conn, before[0], last)
            return last, ended, job_counts.unfinished(conn)

        last, ended, unfinished = await self._database.read(look)
        self._told = last, now
        if before is not None and ended is not None and (ended.by_status or unfinished.by_status):
            logger.info("{}", _summary(ended, unfinished, now, since=before[1]))

    def deposed(self) -> None:
        """Begin again with the next lead: another orchestrator tells of the time between."""
        self._told = None


def _summary(ended: EndedJobs, unfinished: Unfinished, now: float, *, since: float) -> str:
    counts = ", ".join(
        f"{number:,} jobs {status.value}" for status, number in sorted(ended.by_status.items())
    )
    done = f"{counts}, {ended.chunks_stored:,} chunks stored" if counts else "no job ended"
    left = sum(unfinished.by_status.values())
    waits = "" if unfinished.oldest is None else f", the oldest for {now - unfinished.oldest:.0f} s"
    return f"in {now - since:.0f} s: {done}; {left:,} jobs are unfinished{waits}"
