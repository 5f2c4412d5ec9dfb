"""Mends the differences that the verification of a view has found, and empties views."""

from __future__ import annotations

from functools import partial

from embedfleet.clock import Clock
from embedfleet.errors import ViewUnavailable
from embedfleet.paging import pages
from embedfleet.records import views as view_records
from embedfleet.sql.database import Database
from embedfleet.views.keeping import ViewKeeper
from embedfleet.views.verification import ViewDifferences, ViewVerification

_ROWS_PER_PAGE = 500


class ViewMending:
    """Mends one view. It may be interrupted anywhere and repeated."""

    def __init__(
        self, keeper: ViewKeeper, verification: ViewVerification, *, database: Database, clock: Clock
    ) -> None:
        self._keeper = keeper
        self._verification = verification
        self._view = keeper.view
        self._database = database
        self._clock = clock

    async def mend(self, found: ViewDifferences) -> int:
        """Delete what is extra, and have what is missing or wrong written again.

        Returns how many of the differences are mended: those that a second look does not find. Raises
        ViewUnavailable if some are left, because the view cannot be written now.
        """
        collection = self._view.collection(found.tenant)
        for page in pages(found.extra, _ROWS_PER_PAGE):
            await self._view.store.delete(collection, page)
        ask = partial(view_records.ask_again, name=self._view.name, document_ids=sorted(found.documents))
        await self._database.write(partial(ask, now=self._clock.now()))
        failure: ViewUnavailable | None = None
        try:
            while await self._keeper.catch_up():
                pass
        except ViewUnavailable as exc:  # perhaps of another tenant
            failure = exc
        left = await self._verification.check(self._view, found.tenant)
        if failure is not None and (left.count or left.behind):
            raise failure
        return max(0, found.count - left.count - left.behind)

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
