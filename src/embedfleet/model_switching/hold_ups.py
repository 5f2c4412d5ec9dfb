"""Says why switches do not go on now: what the oldest unfinished job of each was put off for.

Tasks of a model that cannot be loaded, of a server that does not answer, or of a store that is away wait in
the queues, uncounted. SQL knows only that their jobs are unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from embedfleet.errors import BrokerUnavailable, one_line
from embedfleet.explanation import stage_of
from embedfleet.queue.broker import Broker
from embedfleet.records import model_switches
from embedfleet.records.model_switches import UnfinishedJob
from embedfleet.sql.database import Database

# A look costs a read, and a call of the broker for each switch with unfinished jobs. A person reads it.
_LOOK_SECONDS = 2.0


class HoldUps:
    """Looks at the queues for the leader. It remembers a look for a moment."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database = database
        self._broker = broker
        self._looked_at = float("-inf")
        self._reasons: Mapping[int, str] = {}

    async def reasons(self) -> Mapping[int, str]:
        """Return why the oldest unfinished job of each switch was put off, the last time.

        They are by the ids of the switches. One without unfinished jobs, or whose job was never put off, is
        left out.
        """
        if monotonic() - self._looked_at >= _LOOK_SECONDS:
            oldest = await self._database.read(model_switches.oldest_unfinished_jobs)
            found = {switch_id: await self._why(job) for switch_id, job in oldest.items()}
            self._reasons = {switch_id: why for switch_id, why in found.items() if why}
            self._looked_at = monotonic()
        return self._reasons

    async def _why(self, job: UnfinishedJob) -> str:
        stage = stage_of(job.status)
        if stage is None:
            return ""
        try:
            tasks = await self._broker.tasks_of(stage, job.job_id, limit=1)
        except BrokerUnavailable as exc:
            return one_line(exc)
        return next((one_line(task.reason) for task in tasks), "")
