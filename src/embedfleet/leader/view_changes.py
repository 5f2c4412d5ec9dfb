"""The duty that tells the views which documents changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.records import views
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database

TELL_SECONDS = 0.25
"""The least time between two steps: the documents that end within it are told of together."""


class ViewChanges(LeaderDuty):
    """Records which views there are, has new ones filled, and turns marks of documents into their changes."""

    name: ClassVar = "changes for views"
    works_again: ClassVar = "views are told of changes again"

    def __init__(self, recipes: Mapping[str, str], *, database: Database, clock: Clock) -> None:
        """`recipes` says what decides the content of each view, by its name. There may be none."""
        self._recipes = recipes
        self._database = database
        self._clock = clock
        self._registered = False

    async def step(self) -> None:
        if not self._recipes and self._registered:
            return
        known = await self._registered_views()
        now = self._clock.now()
        while known and (marked := await self._database.read(views.marked)):
            await self._database.write(partial(_tell, document_ids=marked, now=now))
        for row in known.values():
            filled_to = row.filled_to
            while filled_to is not None:
                filled_to = await self._database.write(partial(views.fill_some, name=row.name, now=now))

    def deposed(self) -> None:
        # The next leader may have other settings.
        self._registered = False

    async def _registered_views(self) -> dict[str, views.ViewRow]:
        """Return the views as SQL knows them. If they are not those of the settings, SQL is changed first."""
        known = await self._database.read(views.all_views)
        if {name: row.recipe for name, row in known.items()} != dict(self._recipes):
            register = partial(views.register, recipes=self._recipes)
            for name in await self._database.write(register):
                logger.warning("view `{}` is not in the settings any more: what it wrote stays there", name)
            known = await self._database.read(views.all_views)
        self._registered = True
        return known


def _tell(conn: Connection, document_ids: list[str], now: float) -> None:
    document_lock.lock(conn, document_ids)
    views.tell(conn, document_ids, now)
