"""Builds what answers clients, in an orchestrator and beside one: the search, and the job manager."""

from __future__ import annotations

from contextlib import AsyncExitStack

from embedfleet.clock import Clock, SystemClock
from embedfleet.inference.catalogue import Catalogue
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.searching.impressions import Impressions
from embedfleet.searching.search import SearchService, SpacesSearch
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.tenant_access import Searches
from embedfleet.vectors.port import VectorStore


def search_service(
    settings: Settings,
    database: Database,
    store: VectorStore,
    embedder: TextEmbedder,
    *,
    seconds: float | None = None,
) -> SearchService:
    """`seconds`: how long the embedding of a query may take; None: as long as it takes."""
    rows = settings.vector_store.exact_scan_rows
    spaces = SpacesSearch(database, store, embedder, exact_scan_rows=rows, embedding_seconds=seconds)
    impressions = Impressions(database, SystemClock(), settings.experiments)
    return SearchService(database, spaces, impressions=impressions)


def entered_jobs(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    catalogue: Catalogue,
    clock: Clock,
    search: Searches,
) -> EmbeddingJobManager:
    """Return the job manager, which is closed at the end."""
    jobs = EmbeddingJobManager(
        JobManagerConfig(settings=settings),
        database=database,
        catalogue=catalogue,
        clock=clock,
        searches=search,
    )
    stack.push_async_callback(jobs.close)
    return jobs
