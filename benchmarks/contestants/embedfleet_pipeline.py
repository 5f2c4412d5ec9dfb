"""embedfleet, embedded: its defaults, SQLite with `synchronous=full`.

Also without texts in Chroma, and into LanceDB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from anyio.from_thread import start_blocking_portal
from corpus import job_requests
from loguru import logger

from contestants import Contest, Documents, Ingest
from embedfleet.bootstrap import open_owner
from embedfleet.paging import pages
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.settings import load_settings

SUBMITTED_TOGETHER = 256
SETTINGS = f"its defaults, {SUBMITTED_TOGETHER} documents a call of create_jobs"


@contextmanager
def opened(contest: Contest) -> Iterator[Ingest]:
    logger.disable("embedfleet")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_service(contest)) as ingest,
    ):
        yield lambda documents: portal.call(ingest, documents)


@asynccontextmanager
async def _service(contest: Contest) -> AsyncIterator[Callable[[Documents], Awaitable[int]]]:
    settings = load_settings(
        environ={},
        overrides={
            "data_dir": str(contest.directory),
            "models": {"default": contest.model},
            "vector_store": {
                "kind": "lancedb" if contest.into_lancedb else "chroma",
                "store_documents": not contest.contestant.endswith("store_documents: false"),
            },
        },
    )
    stop = asyncio.Event()
    async with (
        open_owner(settings, purpose="benchmark") as system,
        asyncio.TaskGroup() as tasks,
    ):
        await system.models.get(contest.model)
        tasks.create_task(system.orchestrator.run(stop))

        chunking = ChunkingConfig(chunk_size=contest.chunk_chars, overlap=0)

        async def ingest(documents: Documents) -> int:
            job_ids: list[str] = []
            for requests in pages(list(job_requests(documents, chunking)), SUBMITTED_TOGETHER):
                job_ids += await system.jobs.create_jobs(requests)
            return sum([info.progress.chunks_stored async for info in system.jobs.as_completed(job_ids)])

        yield ingest
        stop.set()
