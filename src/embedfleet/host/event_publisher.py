"""The leader puts completion events in order, counts them, and forgets them in time."""

from __future__ import annotations

from embedfleet.metrics import Metrics
from embedfleet.storage import events
from embedfleet.storage.database import Database

_NUMBERED_AT_ONCE = 1_000


class EventPublisher:
    """Gives positions to events. Two publishers at once number nothing twice."""

    def __init__(self, *, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics

    async def number(self) -> None:
        """Number what has ended so far. Here jobs are counted: every end once, whoever caused it."""
        while await self._database.read(events.any_unnumbered):
            numbered = await self._database.write(lambda conn: events.number(conn, _NUMBERED_AT_ONCE))
            for event in numbered:
                self._metrics.jobs_total.labels(event.status.value).inc()
                self._metrics.count_tenant(event.tenant_id, jobs=1)
