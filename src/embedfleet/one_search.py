"""One search by a process that starts for it: opens only what that search needs, or asks the owner.

Embedded, searches share the data directory with each other, but not with an owner (ADR 17).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from embedfleet.clock import SystemClock
from embedfleet.data_directory import Owner, ReadersShare, owner_of
from embedfleet.deployment import deployment_of
from embedfleet.errors import DataDirectoryInUse
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.joining import Purpose, join, vectors_part
from embedfleet.searching.search import SearchClient, SearchService, SpacesSearch
from embedfleet.sql.opening import open_database
from embedfleet.store_moving.places import settings_of_system
from embedfleet.vectors.registry import store_kind
from embedfleet.waiting import cancel_and_wait, repeat

if TYPE_CHECKING:
    from embedfleet.queue_schemas import SearchHits
    from embedfleet.searching.search import SearchRequest
    from embedfleet.settings import Settings

# An owner that ends without an answer is noticed within this time. A look is one lock and one small file.
_LOOK_SECONDS = 0.1


async def search_once(settings: Settings, tenant: str, request: SearchRequest) -> SearchHits:
    """Search as `SearchService.search` does: in this process, or through the owner of the data directory.

    Raises DataDirectoryInUse if the owner answers no searches. Raises ConfigError, also if the vector store
    is not that of the database's system, and Transient if a service or the owner does not answer.
    """
    if not deployment_of(settings).owns_data_directory:
        return await _search_here(settings, tenant, request)
    while True:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(ReadersShare(settings.data_dir))
            except DataDirectoryInUse as exc:
                in_use = exc
            else:
                return await _search_here(settings, tenant, request)
        owner = owner_of(settings.data_dir)
        if owner is None:  # it has ended since
            continue
        if owner.pid == 0:
            raise in_use
        if not owner.answers_searches:
            raise DataDirectoryInUse(
                f"{settings.data_dir} is in use by process {owner.pid} on {owner.host} ({owner.purpose}), "
                "which answers no searches: search again when it has ended"
            ) from in_use
        hits = await _ask(owner, settings, tenant, request)
        if hits is not None:
            return hits


async def _search_here(settings: Settings, tenant: str, request: SearchRequest) -> SearchHits:
    async with AsyncExitStack() as stack:
        # The store comes first: its process starts while this one goes on.
        store = await store_kind(settings.vector_store.kind).open_for_queries(settings)
        stack.push_async_callback(store.close)
        database = open_database(settings)
        stack.push_async_callback(database.close)
        await database.open()
        there = await settings_of_system(settings, database)
        if there is not settings:  # the vectors have moved: SQL knows where they are
            store = await store_kind(there.vector_store.kind).open_for_queries(there)
            stack.push_async_callback(store.close)
        await join(database, vectors_part(there, store), SystemClock(), Purpose.READ)
        catalogue = Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        embedder = LocalTextEmbedder(catalogue, models)
        stack.push_async_callback(embedder.close)
        rows = settings.vector_store.exact_scan_rows
        spaces = SpacesSearch(database, store, embedder, exact_scan_rows=rows)
        return await SearchService(database, spaces).search(tenant, request)


async def _ask(owner: Owner, settings: Settings, tenant: str, request: SearchRequest) -> SearchHits | None:
    """Ask the owner. Return None if it ends before it answers: then the question is taken back."""
    database = open_database(settings)
    try:
        await database.open()
        asking = asyncio.create_task(SearchClient(database, SystemClock()).search(tenant, request))
        leaving = asyncio.create_task(_end_of(owner, settings))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return await asking if asking.done() else None
        finally:
            await cancel_and_wait(asking, leaving)
    finally:
        await database.close()


async def _end_of(owner: Owner, settings: Settings) -> None:
    ended = asyncio.Event()

    async def look() -> None:
        if owner_of(settings.data_dir) != owner:
            ended.set()

    await repeat(ended, look, seconds=_LOOK_SECONDS)
