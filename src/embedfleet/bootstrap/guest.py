"""Opens a guest: a process beside the orchestrators that uses the database only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from embedfleet.bootstrap.adapters import entered_database
from embedfleet.bootstrap.systems import GuestSystem
from embedfleet.clock import SystemClock
from embedfleet.deployment import deployment_of
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.searching.search import SearchClient
from embedfleet.settings import Settings


@asynccontextmanager
async def open_guest(settings: Settings) -> AsyncIterator[GuestSystem]:
    """Open only the database. This works with or without a running orchestrator."""
    deployment_of(settings)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await entered_database(stack, settings)
        jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
        stack.push_async_callback(jobs.close)
        yield GuestSystem(settings, database, jobs, SearchClient(database, clock))
