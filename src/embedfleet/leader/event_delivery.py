"""The leader delivers events to the webhook: each at least once, first deliveries in order.

An event is written down as delivered only after the receiver's answer, and the next one is sent only then. So
a leader that dies, or two leaders for a moment, repeat deliveries, and never skip or overtake one.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from time import monotonic

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError, WebhookUnavailable
from embedfleet.leader.election import Election
from embedfleet.leader.webhook import Webhook
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobEvent
from embedfleet.records import events
from embedfleet.retry import retry_delay_seconds
from embedfleet.settings import EventsSettings
from embedfleet.sql.database import Database
from embedfleet.waiting import first_of

_READ_AT_ONCE = 100
_LOOK_SECONDS = 5.0


class EventDelivery:
    """A loop of its own: a receiver that is away stops nothing but the deliveries."""

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
        self._looked_at = float("-inf")

    async def run(self, done: asyncio.Event) -> None:
        """Until `done`; what is left then is delivered by the next leader."""
        delivering = asyncio.create_task(self._deliver_forever(), name="webhook deliveries")
        try:
            await first_of(asyncio.wait([delivering]), done.wait())
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError):
                await delivering  # raises what ended it, if that was not us

    async def _deliver_forever(self) -> None:
        try:
            while True:
                await self._turn()
        finally:
            await self._webhook.close()

    async def _turn(self) -> None:
        seen = await self._database.version()
        try:
            await self._look()
            if self._election.leads and await self._deliver_some():
                return
        except EmbedfleetError as exc:
            self._note_failure(exc)
            await asyncio.sleep(self._pause_seconds())
            return
        await self._database.wait_for_write(seen, timeout_seconds=1.0)

    async def _deliver_some(self) -> bool:
        """Deliver what waits, in order. Whether there was anything."""
        waiting = await self._database.read(lambda conn: events.undelivered(conn, _READ_AT_ONCE))
        for event in waiting:
            if not self._election.leads:
                break
            await self._deliver(event)
        return bool(waiting)

    async def _deliver(self, event: JobEvent) -> None:
        await self._webhook.send(event)
        now = self._clock.now()
        await self._database.write(lambda conn: events.mark_delivered(conn, event.event_id, now))
        if self._failures:
            logger.info("the webhook takes events again")
            self._failures = 0

    def _note_failure(self, exc: EmbedfleetError) -> None:
        self._failures += 1
        if isinstance(exc, WebhookUnavailable):
            self._metrics.webhook_failures_total.inc()
        if self._failures == 1:
            logger.warning("events wait: {}", exc)

    def _pause_seconds(self) -> float:
        given = self._settings
        return retry_delay_seconds(
            self._failures, base=given.retry_base_seconds, cap=given.retry_max_seconds, rng=self._rng
        )

    async def _look(self) -> None:
        if monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        leads = self._election.leads
        waiting = await self._database.read(events.count_undelivered) if leads else 0
        self._metrics.events_undelivered.set(waiting)
        self._looked_at = monotonic()
