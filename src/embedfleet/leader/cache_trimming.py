"""Keeps every tenant's embedding cache within its size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.leader.election import Election
from embedfleet.records import embedding_cache
from embedfleet.records.embedding_cache import CacheSize
from embedfleet.settings import EmbeddingCacheSettings
from embedfleet.sql.database import Database
from embedfleet.sql.paging import pages
from embedfleet.waiting import wait_briefly

_LOOK_SECONDS = 60.0
_TRIMMED_TO_PERCENT = 90
"""Of the limit: a full cache is not trimmed at every look."""
_ROWS_PER_UNIT = 1000
"""Dropped in one transaction, so that others need not wait."""


class CacheTrimming:
    """The leader looks once a minute and drops what was not used for longest."""

    def __init__(self, *, database: Database, election: Election, settings: EmbeddingCacheSettings) -> None:
        self._database = database
        self._election = election
        self._settings = settings

    async def run(self, done: asyncio.Event) -> None:
        """Until `done`. With the cache off nothing is looked at."""
        while self._settings.enabled and not done.is_set():
            await wait_briefly(done, _LOOK_SECONDS)
            if self._election.leads and not done.is_set():
                try:
                    await self.trim()
                except EmbedfleetError as exc:
                    logger.warning("the embedding cache is trimmed later: {}", exc)

    async def trim(self) -> int:
        """Bring every tenant's cache within its size; returns how many rows were dropped."""
        found = await self._database.read(embedding_cache.sizes)
        dropped = 0
        for collection_id, rows in surplus(found, self._settings.max_mb_per_tenant * 2**20).items():
            for page in pages(range(rows), _ROWS_PER_UNIT):
                drop = partial(embedding_cache.drop_oldest, collection_id=collection_id, rows=len(page))
                dropped += await self._database.write(drop)
        return dropped


def surplus(found: Iterable[CacheSize], most_bytes: int) -> Mapping[int, int]:
    """How many rows of which collection are to go; a tenant's collections give in proportion."""
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
