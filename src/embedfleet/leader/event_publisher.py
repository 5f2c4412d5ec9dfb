"""The duty that numbers completion events, logs and counts ended jobs, and drops old events."""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import ClassVar

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import events
from embedfleet.records.events import NumberedEnd
from embedfleet.settings import EventsSettings
from embedfleet.sql.database import Database

_AT_ONCE = 1_000
_FORGET_SECONDS = 60.0
_DAY_SECONDS = 86_400.0


class EventPublisher(LeaderDuty):
    """Gives positions to events. Two publishers at once never number one event twice."""

    name: ClassVar = "events"
    works_again: ClassVar = "events are numbered again"

    def __init__(
        self,
        *,
        database: Database,
        waiting: WaitingWork,
        metrics: Metrics,
        clock: Clock,
        settings: EventsSettings,
    ) -> None:
        self._database = database
        self._waiting = waiting
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._forgot_at = float("-inf")

    async def step(self) -> None:
        if (await self._waiting.now()).events:
            await self.number()
        await self.forget_old()

    async def last_step(self) -> None:
        """Number the events of jobs that ended while this orchestrator drained."""
        await self.number()

    async def number(self) -> None:
        """Number all events that have no position yet.

        Only this method logs and counts ended jobs, because each end has one event, whichever process caused
        it.
        """
        while await self._database.read(events.any_unnumbered):
            numbered = await self._database.write(lambda conn: events.assign_positions(conn, _AT_ONCE))
            for end in numbered:
                _log_end(end)
            ends = Counter((end.event.tenant, end.event.status) for end in numbered)
            for (tenant, status), count in ends.items():
                self._metrics.jobs_total.labels(status.value).inc(count)
                self._metrics.count_tenant(tenant, jobs=count)

    async def forget_old(self) -> None:
        """Drop events older than `keep_days`, once a minute. With a webhook, drop only delivered ones."""
        if monotonic() - self._forgot_at < _FORGET_SECONDS:
            return
        self._forgot_at = monotonic()
        before = self._clock.now() - self._settings.keep_days * _DAY_SECONDS
        delivered_only = self._settings.webhook_url is not None
        while (
            await self._database.write(
                lambda conn: events.drop_old(conn, _AT_ONCE, before=before, delivered_only=delivered_only)
            )
            == _AT_ONCE
        ):
            pass


def _log_end(end: NumberedEnd) -> None:
    """Log how a run of a job ended, in one line."""
    event = end.event
    log = logger.bind(tenant=event.tenant, media_id=event.media_id, job_id=event.job_id)
    seconds = "" if end.seconds is None else f" {end.seconds:.1f} s after it was submitted"
    why = "" if event.status is JobStatus.COMPLETED or event.reason is None else f": {event.reason}"
    lost = f", {event.chunks_dead} given up" if event.chunks_dead else ""
    log.info("job {}{}, {} chunks stored{}{}", event.status.value, seconds, event.chunks_stored, lost, why)
