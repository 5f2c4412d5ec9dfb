"""Waiting until views are in step."""

from __future__ import annotations

from embedfleet.records import views
from support.system import Running, until


async def in_step(fleet: Running) -> None:
    """Until the views have taken in every change so far."""

    async def all_taken_in() -> bool:
        database = fleet.system.database
        marked = await database.read(views.marked)
        lags = await database.read(views.lags)
        return bool(lags) and not marked and all(lag.filled and not lag.documents for lag in lags.values())

    await fleet.settled()
    await until(all_taken_in, fleet.system.database)
