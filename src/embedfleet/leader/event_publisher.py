"""The leader puts completion events in order, counts them, and forgets them in time."""

from __future__ import annotations

from time import monotonic

from embedfleet.clock import Clock
from embedfleet.metrics import Metrics
from embedfleet.records import events
from embedfleet.settings import EventsSettings
from embedfleet.sql.database import Database

_AT_ONCE = 1_000
_FORGET_SECONDS = 60.0
_DAY_SECONDS = 86_400.0


class EventPublisher:
    """Gives positions to events. Two publishers at once number nothing twice."""

    def __init__(
        self, *, database: Database, metrics: Metrics, clock: Clock, settings: EventsSettings
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._forgot_at = float("-inf")

    async def number(self) -> None:
        """Number what has ended so far. Here jobs are counted: every end once, whoever caused it."""
        while await self._database.read(events.any_unnumbered):
            numbered = await self._database.write(lambda conn: events.assign_positions(conn, _AT_ONCE))
            for event in numbered:
                self._metrics.jobs_total.labels(event.status.value).inc()
                self._metrics.count_tenant(event.tenant, jobs=1)

    async def forget_old(self) -> None:
        """Drop events older than `keep_days`, once a minute; with a webhook, only what it has got."""
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
