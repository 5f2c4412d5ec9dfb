"""Splits long sequences into pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

ItemT = TypeVar("ItemT")


@overload
def pages(items: list[ItemT], size: int) -> Iterator[list[ItemT]]: ...
@overload
def pages(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]: ...
def pages(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    """Split a sequence into consecutive pages of `size` items. The last may be shorter; none is empty."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def halves(items: Sequence[ItemT]) -> tuple[Sequence[ItemT], Sequence[ItemT]]:
    """Split a sequence in the middle."""
    middle = len(items) // 2
    return items[:middle], items[middle:]
