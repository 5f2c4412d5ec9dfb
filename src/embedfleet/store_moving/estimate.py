"""What a move would copy, before it begins."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass

from embedfleet.records import collections
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.vectors.registry import store_kind

_BYTES_PER_VALUE = 4


@dataclass(frozen=True, slots=True)
class MoveEstimate:
    """`vector_bytes` are of the vectors alone. `free_bytes` is None if the store is not on this machine."""

    place: str
    rows: int
    vector_bytes: int
    free_bytes: int | None


async def estimate(database: Database, target: Settings) -> MoveEstimate:
    """Count what would be copied into the store of these settings. Reads all rows of `vectors`."""
    stored = await database.read(collections.stored_rows)
    kind = store_kind(target.vector_store.kind)
    own = kind.own_directory(target)
    # The directory itself is made when the store is opened.
    free = None if own is None else (await asyncio.to_thread(shutil.disk_usage, own.parent)).free
    return MoveEstimate(
        place=kind.place(target),
        rows=sum(stored.values()),
        vector_bytes=sum(one.dim * _BYTES_PER_VALUE * rows for one, rows in stored.items()),
        free_bytes=free,
    )
