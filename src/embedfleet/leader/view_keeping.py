"""The duty that keeps a view in step with the live documents."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.leader.view_changes import ViewChanges
from embedfleet.metrics import Metrics
from embedfleet.records import views
from embedfleet.sql.database import Database
from embedfleet.views.keeping import ViewKeeper

KEEP_SECONDS = 0.25
"""The least time between two steps. Each opens the reader's directory, if there is something to write."""

# A command that ingests ends when its documents are live, and its view then has a folder's worth to take in.
# A supervisor would kill a process whose stop takes much longer.
_LAST_SECONDS = 10.0


class ViewKeeping(LeaderDuty):
    """Writes one view. For a moment two leaders may: what the slower one wrote last is then written again."""

    name: ClassVar = "view"
    works_again: ClassVar = "the view is kept in step again"
    stops_in_mid_step: ClassVar = True  # every part of a step may be repeated

    def __init__(
        self,
        keeper: ViewKeeper,
        telling: ViewChanges,
        *,
        database: Database,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`telling` is the duty that tells the view of changes."""
        self._keeper = keeper
        self._telling = telling
        self._database = database
        self._metrics = metrics
        self._clock = clock

    async def step(self) -> None:
        try:
            await self._keeper.catch_up()
        finally:
            self._tell(await self._database.read(views.lags))

    async def last_step(self) -> None:
        """Take in what ended just before the stop, for some seconds. The next leader takes in the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._telling.step()
                await self._keeper.catch_up()

    def deposed(self) -> None:
        self._tell({})

    def _tell(self, lags: dict[str, views.Lag]) -> None:
        """Set the gauges of the view. Only the leader tells them: the others set 0."""
        name = self._keeper.view.name
        lag = lags.get(name, views.Lag(0, None, filled=True))
        age = 0.0 if lag.oldest is None else max(0.0, self._clock.now() - lag.oldest)
        self._metrics.view_waiting_documents.labels(name).set(lag.documents)
        self._metrics.view_lag_seconds.labels(name).set(age)
