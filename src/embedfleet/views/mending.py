"""Mends the differences that the verification of a view has found, and empties views."""

from __future__ import annotations

from functools import partial

from embedfleet.clock import Clock
from embedfleet.paging import pages
from embedfleet.records import views as view_records
from embedfleet.sql.database import Database
from embedfleet.views.keeping import ViewKeeper
from embedfleet.views.verification import ViewDifferences

_ROWS_PER_PAGE = 500


class ViewMending:
    """Mends one view. It may be interrupted anywhere and repeated."""

    def __init__(self, keeper: ViewKeeper, *, database: Database, clock: Clock) -> None:
        self._keeper = keeper
        self._view = keeper.view
        self._database = database
        self._clock = clock

    async def mend(self, found: ViewDifferences) -> None:
        """Delete what is extra, and have what is missing or wrong written again.

        Raises ViewUnavailable if the view cannot be written.
        """
        collection = self._view.collection(found.tenant)
        for page in pages(found.extra, _ROWS_PER_PAGE):
            await self._view.store.delete(collection, page)
        await self._database.write(
            partial(
                view_records.ask_again,
                name=self._view.name,
                document_ids=sorted(found.documents),
                now=self._clock.now(),
            )
        )
        await self._keeper.catch_up()

    async def empty(self, tenant: str) -> None:
        """Delete every row that this system wrote for the tenant. Rows of other owners stay."""
        if not self._view.shows(tenant):
            return
        collection = self._view.collection(tenant)
        ours: list[str] = []
        async for ids, labels in self._view.store.labels(collection):
            ours += [one for one, label in zip(ids, labels, strict=True) if self._view.layout.is_ours(label)]
        for page in pages(ours, _ROWS_PER_PAGE):
            await self._view.store.delete(collection, page)
        await self._view.store.rest()
