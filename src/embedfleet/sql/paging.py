"""Long lists of keys, in parts that any database takes in one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

KeyT = TypeVar("KeyT")

# SQLite takes 32,766 bound parameters a statement; stay well below it.
_KEYS_PER_QUERY = 5_000


def pages(keys: Sequence[KeyT]) -> Iterator[Sequence[KeyT]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]


def chunk_id_pages(chunk_ids: Sequence[str]) -> Iterator[list[bytes]]:
    """Hex ids as the 16 bytes that the tables hold."""
    for page in pages(chunk_ids):
        yield [bytes.fromhex(chunk_id) for chunk_id in page]
