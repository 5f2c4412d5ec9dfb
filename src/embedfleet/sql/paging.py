"""Splits long lists of keys into pages that one SQL statement may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from embedfleet.paging import pages

KeyT = TypeVar("KeyT")

# SQLite takes 32,766 bound parameters in a statement, and a statement has others beside the keys.
_KEYS_PER_STATEMENT = 5_000


def key_pages(keys: Sequence[KeyT]) -> Iterator[Sequence[KeyT]]:
    """Consecutive pages of the keys, for one statement each. None is empty."""
    return pages(keys, _KEYS_PER_STATEMENT)


def chunk_id_pages(chunk_ids: Sequence[str]) -> Iterator[list[bytes]]:
    """Split hex chunk ids into pages for one statement each, as the 16 bytes that the tables hold."""
    for page in key_pages(chunk_ids):
        yield [bytes.fromhex(chunk_id) for chunk_id in page]
