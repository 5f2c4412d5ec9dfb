"""Splits long lists into pages. The default page has as many keys as one SQL statement may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")

# SQLite takes 32,766 bound parameters in a statement, and a statement has others beside the keys.
_KEYS_PER_STATEMENT = 5_000


def pages(items: Sequence[ItemT], size: int = _KEYS_PER_STATEMENT) -> Iterator[Sequence[ItemT]]:
    """Split a sequence into consecutive pages of `size` items. The last may be shorter; none is empty."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def chunk_id_pages(chunk_ids: Sequence[str]) -> Iterator[list[bytes]]:
    """Pages of hex chunk ids for one statement each, as the 16 bytes that the tables hold."""
    for page in pages(chunk_ids):
        yield [bytes.fromhex(chunk_id) for chunk_id in page]
