"""Submit a document, wait until it is searchable, and search it: all in one process, nothing to start.

python examples/quickstart.py
"""

import asyncio
import tempfile

from embedfleet.bootstrap import open_owner
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import load_settings

TEXT = """# Fair queues

Each tenant gets its share of the workers, charged in tokens.

# Leases

A worker that falls silent loses its task to another.
"""


async def main(data_dir: str) -> None:
    stop = asyncio.Event()
    async with open_owner(load_settings(overrides={"data_dir": data_dir}), purpose="quickstart") as fleet:
        workers = asyncio.create_task(fleet.orchestrator.run(stop))
        job_id = await fleet.jobs.create_job(
            media_id=1, user_id="me", content=TEXT, content_type="markdown", source="notes.md"
        )
        info = await fleet.jobs.wait(job_id, timeout_seconds=60)
        print(f"{info.status}: {info.progress.chunks_stored} chunk, coverage {info.coverage:.0%}")
        for hit in await fleet.search.search("me", SearchRequest(query="what if a machine dies?", limit=1)):
            print(f"{hit.score:.2f} {hit.source} [{hit.start}-{hit.end}] {hit.heading}")
        stop.set()
        await workers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
