"""Says why switches do not go on now: what the oldest unfinished job of each was put off for.

Tasks of a model that cannot be loaded, of a server that does not answer, or of a store that is away wait in
the queues, uncounted. SQL knows only that their jobs are unfinished. So the reason is written there, for
those who look at the switch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic

from sqlalchemy import Connection

from embedfleet.errors import BrokerUnavailable, one_line
from embedfleet.explanation import stage_of
from embedfleet.queue.broker import Broker
from embedfleet.records import model_switches
from embedfleet.records.model_switches import ModelSwitch, UnfinishedJob
from embedfleet.sql.database import Database

# A look costs a read, and a call of the broker for each switch with unfinished jobs. A person reads it.
_LOOK_SECONDS = 2.0


class HoldUps:
    """Looks at the queues for the leader, and writes down what it finds. It remembers a look for a moment."""

    def __init__(self, database: Database, broker: Broker, now: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._broker = broker
        self._now = now
        self._looked_at = float("-inf")
        self._reasons: Mapping[int, str] = {}
        # When the reason of each switch was written, while that is less than a look ago.
        self._told_at: dict[int, float] = {}

    async def reasons(self) -> Mapping[int, str]:
        """Return why the oldest unfinished job of each switch was put off, the last time.

        They are by the ids of the switches. One without unfinished jobs, or whose job was never put off, is
        left out.
        """
        if self._now() - self._looked_at >= _LOOK_SECONDS:
            oldest = await self._database.read(model_switches.oldest_unfinished_jobs)
            found = {switch_id: await self._why(job) for switch_id, job in oldest.items()}
            self._reasons = {switch_id: why for switch_id, why in found.items() if why}
            self._looked_at = self._now()
        return self._reasons

    async def tell(self, switch: ModelSwitch, reason: str | None) -> None:
        """Keep with the switch why it does not go on now. None: it goes on.

        A write brings the next step of the leader, and the words of a failure may be others in each step:
        they name seconds, ports, or another job. So another reason is written only now and then.
        """
        now = self._now()
        self._told_at = {one: at for one, at in self._told_at.items() if now - at < _LOOK_SECONDS}
        if reason == switch.findings.get("waits_for") or (reason and switch.switch_id in self._told_at):
            return
        self._told_at[switch.switch_id] = now
        await self._database.write(partial(_keep, switch_id=switch.switch_id, reason=reason))

    async def _why(self, job: UnfinishedJob) -> str:
        stage = stage_of(job.status)
        if stage is None:
            return ""
        try:
            tasks = await self._broker.tasks_of(stage, job.job_id, limit=1)
        except BrokerUnavailable as exc:
            return one_line(exc)
        return next((one_line(task.reason) for task in tasks), "")


def _keep(conn: Connection, switch_id: int, reason: str | None) -> None:
    present = model_switches.lock(conn, switch_id)
    if present is not None and present.running:
        model_switches.change(conn, present, findings={"waits_for": reason})
