"""The duty that delivers events to the webhook: each at least once, and first deliveries in order.

An event is recorded as delivered only after the receiver's answer, and the next one is sent only then. So a
leader that dies, or two leaders for a moment, may repeat deliveries. They never skip an event, and never send
an event for the first time before an earlier one.
"""

from __future__ import annotations

import random
from time import monotonic
from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError, WebhookUnavailable
from embedfleet.leader.election import Election
from embedfleet.leader.service import LeaderDuty
from embedfleet.leader.webhook import Webhook
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobEvent
from embedfleet.records import events
from embedfleet.retry import retry_delay_seconds
from embedfleet.settings import EventsSettings
from embedfleet.sql.database import Database

_READ_AT_ONCE = 100
_COUNT_SECONDS = 5.0


class EventDelivery(LeaderDuty):
    """Sends events to the webhook. A receiver that is away delays the deliveries and nothing else."""

    name: ClassVar = "webhook"
    works_again: ClassVar = "the webhook takes events again"
    stops_in_mid_step: ClassVar = True  # a slow receiver must not hold up the stop; the next leader delivers

    def __init__(
        self,
        webhook: Webhook,
        *,
        database: Database,
        election: Election,
        metrics: Metrics,
        clock: Clock,
        settings: EventsSettings,
    ) -> None:
        self._webhook = webhook
        self._database = database
        self._election = election
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._rng = random.Random()
        self._failures = 0
        self._counted_at = float("-inf")

    async def step(self) -> None:
        """Deliver all events that wait, in order."""
        try:
            while await self._deliver_some():
                pass
        except EmbedfleetError as exc:
            self._failures += 1
            if isinstance(exc, WebhookUnavailable):
                self._metrics.webhook_failures_total.inc()
            raise

    def deposed(self) -> None:
        """Set the gauge of undelivered events to 0, because only the leader counts them."""
        self._metrics.events_undelivered.set(0)

    def pause_after_failure_seconds(self) -> float:
        """Return a pause that doubles with each failure in a row, with jitter (`events.retry_*_seconds`)."""
        given = self._settings
        return retry_delay_seconds(
            self._failures, base=given.retry_base_seconds, cap=given.retry_max_seconds, rng=self._rng
        )

    async def close(self) -> None:
        await self._webhook.close()

    async def _deliver_some(self) -> bool:
        """Deliver a page of waiting events, in order. Return whether there were any."""
        await self._count_if_due()
        waiting = await self._database.read(lambda conn: events.undelivered(conn, _READ_AT_ONCE))
        for event in waiting:
            # Look before each event: the new leader goes on, and two senders would repeat deliveries.
            if not self._election.leads:
                return False
            await self._deliver(event)
        return bool(waiting)

    async def _deliver(self, event: JobEvent) -> None:
        await self._webhook.send(event)
        now = self._clock.now()
        await self._database.write(lambda conn: events.mark_delivered(conn, event.event_id, now))
        self._failures = 0

    async def _count_if_due(self) -> None:
        if monotonic() - self._counted_at >= _COUNT_SECONDS:
            self._metrics.events_undelivered.set(await self._database.read(events.count_undelivered))
            self._counted_at = monotonic()
