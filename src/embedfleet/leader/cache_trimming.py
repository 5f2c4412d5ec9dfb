"""The duty that keeps every tenant's embedding cache within its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import ClassVar

from embedfleet.leader.service import LeaderDuty
from embedfleet.paging import pages
from embedfleet.records import embedding_cache
from embedfleet.records.embedding_cache import CacheSize
from embedfleet.sql.database import Database

TRIM_SECONDS = 60.0
"""The pause between two looks at the caches."""
_TRIMMED_TO_PERCENT = 90
"""A cache above its limit is trimmed to this share of it, so that not every look must trim."""
_ROWS_PER_UNIT = 1000
"""The most rows that one transaction drops, so that others need not wait long for it."""


class CacheTrimming(LeaderDuty):
    """Looks at every tenant's cache, and drops the rows whose last use is longest ago."""

    name: ClassVar = "cache trimming"
    rests_first: ClassVar = True  # a start has more urgent things to do
    works_again: ClassVar = "the embedding cache is trimmed again"

    def __init__(self, database: Database, *, max_mb_per_tenant: int) -> None:
        self._database = database
        self._most_bytes = max_mb_per_tenant * 2**20

    async def step(self) -> None:
        await self.trim()

    def pause_after_failure_seconds(self) -> float:
        """Wait as long as after a success: a cache that is too large for another minute does no harm."""
        return TRIM_SECONDS

    async def trim(self) -> int:
        """Bring every tenant's cache within its size. Returns how many rows were dropped."""
        found = await self._database.read(embedding_cache.sizes)
        dropped = 0
        for collection_id, rows in surplus(found, self._most_bytes).items():
            for page in pages(range(rows), _ROWS_PER_UNIT):
                drop = partial(embedding_cache.drop_oldest, collection_id=collection_id, rows=len(page))
                dropped += await self._database.write(drop)
        return dropped


def surplus(found: Iterable[CacheSize], most_bytes: int) -> Mapping[int, int]:
    """Return how many rows to drop, by collection id. A tenant's collections shrink in proportion."""
    by_tenant: dict[str, list[CacheSize]] = {}
    for size in found:
        by_tenant.setdefault(size.tenant, []).append(size)
    rows: dict[int, int] = {}
    for sizes in by_tenant.values():
        total = sum(size.rows * size.row_bytes for size in sizes)
        if total > most_bytes:
            kept = most_bytes * _TRIMMED_TO_PERCENT
            rows.update({size.collection_id: size.rows - size.rows * kept // (100 * total) for size in sizes})
    return rows
