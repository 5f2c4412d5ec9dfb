"""Searches views for what is left of a deleted document, or of a deleted tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.views.view import View

T = TypeVar("T")

_PLACE = "view:"
_UNKNOWN = 1
"""What counts as left in a view that cannot be read: it may be there."""


class ViewLeftovers:
    """Looks for rows that this system wrote. Rows that the reader's own writer wrote are not counted."""

    def __init__(self, views: Sequence[View] = ()) -> None:
        self._views = views

    async def of_documents(self, tenant: str, media_ids: Sequence[str]) -> dict[str, Counter[str]]:
        """Count the rows of each media id, by place and media id."""
        found: dict[str, Counter[str]] = {}
        for view in self._showing(tenant):
            rows = await _searched(view, _rows_of_documents(view, tenant, media_ids))
            found[_PLACE + view.name] = Counter(dict.fromkeys(media_ids, _UNKNOWN)) if rows is None else rows
        return found

    async def of_tenant(self, tenant: str) -> dict[str, int]:
        """Count the rows of the tenant, by place."""
        found: dict[str, int] = {}
        for view in self._showing(tenant):
            rows = await _searched(view, _rows_of_tenant(view, tenant))
            found[_PLACE + view.name] = _UNKNOWN if rows is None else rows
        return found

    async def forget_deleted(self, tenant: str) -> None:
        """Have the views drop what they keep of deleted rows."""
        for view in self._showing(tenant):
            await _searched(view, view.store.forget_deleted(view.collection(tenant)))

    def _showing(self, tenant: str) -> list[View]:
        return [view for view in self._views if view.shows(tenant)]


def is_place_of_view(place: str) -> bool:
    """Whether a receipt means a view by this place."""
    return place.startswith(_PLACE)


async def _rows_of_documents(view: View, tenant: str, media_ids: Sequence[str]) -> Counter[str]:
    key = view.layout.document_key
    held = await view.store.labels_with(view.collection(tenant), key, media_ids)
    return Counter(str(labels[key]) for labels in held.values() if view.layout.is_ours(labels))


async def _rows_of_tenant(view: View, tenant: str) -> int:
    pages = [labels async for _, labels in view.store.labels(view.collection(tenant))]
    return sum(view.layout.is_ours(one) for page in pages for one in page)


async def _searched(view: View, search: Awaitable[T]) -> T | None:
    """Return what the search returns; None if the view cannot be read, as other receipts must not wait."""
    try:
        return await search
    except EmbedfleetError as exc:
        logger.warning("view `{}` cannot be searched: {}", view.name, exc)
        return None
    finally:
        with suppress(EmbedfleetError):
            await view.store.rest()
