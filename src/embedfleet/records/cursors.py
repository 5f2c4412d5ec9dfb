"""Listings in pages. A cursor names the last row of a page, and the next page begins after that row.

The order of a listing is total: its key has no ties. So rows that exist during the whole walk come exactly
once, whatever is added or removed between two pages. A row that is added at a place already passed does not
come.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from embedfleet.errors import InvalidRequest

T = TypeVar("T")

_LARGEST_INTEGER = 2**63 - 1


class Page(list[T]):
    """Some rows of a listing, in its order.

    `next_cursor` names the page after this one: pass it as `after`. It is None on the last page.
    """

    def __init__(self, rows: Iterable[T] = (), *, next_cursor: str | None = None) -> None:
        super().__init__(rows)
        self.next_cursor = next_cursor


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing that can be read in pages. `key`: the types of the values that give its order."""

    name: str
    key: tuple[type, ...]

    def key_after(self, cursor: str) -> tuple[Any, ...]:
        """Return the key of the row that the cursor names. Raises InvalidRequest for any other text."""
        try:
            name, *key = json.loads(urlsafe_b64decode(cursor.encode() + b"=="))
        except (AttributeError, ValueError, TypeError, RecursionError):  # AttributeError: it is no text
            name, key = None, []
        if name != self.name or tuple(type(part) for part in key) != self.key or not all(map(_usable, key)):
            raise InvalidRequest(
                f"after: is not a cursor of {self.name}: pass the `next_cursor` of the page before"
            )
        return tuple(key)

    def page(self, rows: Sequence[T], limit: int, key_of: Callable[[T], tuple[Any, ...]]) -> Page[T]:
        """Return the first `limit` of the rows as a page. Of `limit` + 1 rows, the last one shows that there
        is a further page."""
        if len(rows) <= limit:
            return Page(rows)
        return Page(rows[:limit], next_cursor=self._cursor(key_of(rows[limit - 1])))

    def _cursor(self, key: tuple[Any, ...]) -> str:
        # JSON gives every float back exactly, so a tie with the row at the border stays a tie.
        return urlsafe_b64encode(json.dumps([self.name, *key]).encode()).rstrip(b"=").decode()


def _usable(part: object) -> bool:
    """Whether every database takes the value. A cursor may come from a caller that is not trusted."""
    if isinstance(part, str):
        return "\0" not in part and not any("\ud800" <= character <= "\udfff" for character in part)
    return not isinstance(part, int) or abs(part) <= _LARGEST_INTEGER


def require_limit(limit: int) -> None:
    """Raise InvalidRequest unless `limit` can be the size of a page."""
    if limit < 1:
        raise InvalidRequest(f"limit: must be 1 or more (got {limit})")
