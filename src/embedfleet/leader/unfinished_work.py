"""The duty that tells from SQL how much work is unfinished, and for how long.

The counts of the broker are 0 when it takes no tasks, or has lost them. SQL knows every job.
"""

from __future__ import annotations

from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import job_counts
from embedfleet.records.job_counts import Unfinished
from embedfleet.sql.database import Database

COUNT_SECONDS = 5.0
"""The pause between two looks. A look reads at most 100,000 rows, which takes a tenth of a second."""


class UnfinishedWork(LeaderDuty):
    """Sets the gauges of unfinished jobs. Only the leader tells them: the others set 0."""

    name: ClassVar = "unfinished work"
    works_again: ClassVar = "unfinished jobs are counted again"

    def __init__(self, *, database: Database, metrics: Metrics, clock: Clock) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock

    async def step(self) -> None:
        self._tell(await self._database.read(job_counts.unfinished))

    def deposed(self) -> None:
        self._tell(Unfinished({}, None))

    def _tell(self, found: Unfinished) -> None:
        for status in JobStatus:
            if not status.terminal:
                self._metrics.unfinished_jobs.labels(status.value).set(found.by_status.get(status, 0))
        age = 0.0 if found.oldest is None else max(0.0, self._clock.now() - found.oldest)
        self._metrics.oldest_unfinished_job_age_seconds.set(age)
