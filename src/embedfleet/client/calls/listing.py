"""Listings: pages of any length, out of the pages that the server gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from embedfleet.client.calls.reading import page
from embedfleet.client.steps import Ask, Flow, Give, Steps
from embedfleet.records.cursors import Page, require_limit

RecordT = TypeVar("RecordT", bound=BaseModel)

SERVER_ROWS = 1_000
"""The server's longest page."""


def listed(
    kind: type[RecordT],
    path: str,
    name: str,
    *,
    limit: int,
    after: str | None,
    params: Mapping[str, Any] | None = None,
) -> Steps[Page[RecordT]]:
    """Return up to `limit` records of a listing, which are in the list `name` of an answer.

    Raises InvalidRequest for a limit below 1, or for a cursor that is none.
    """
    require_limit(limit)
    found: Page[RecordT] = Page(next_cursor=after)
    while True:
        asked = {"limit": min(limit - len(found), SERVER_ROWS), "after": found.next_cursor}
        more = page(kind, (yield Ask("GET", path, params={**(params or {}), **asked})), name)
        found = Page([*found, *more], next_cursor=more.next_cursor)
        if found.next_cursor is None or len(found) >= limit:
            return found


def every_one(
    kind: type[RecordT], path: str, name: str, *, params: Mapping[str, Any] | None = None
) -> Flow[RecordT]:
    """Give all records of a listing, page by page."""
    after: str | None = None
    while True:
        asked = {**(params or {}), "limit": SERVER_ROWS, "after": after}
        found = page(kind, (yield Ask("GET", path, params=asked)), name)
        yield Give(found)
        after = found.next_cursor
        if after is None:
            return
