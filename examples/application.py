"""An application: submits a text and the bytes of a file, waits, searches as a tenant, and lists documents.

python examples/application.py

Here the orchestrator runs in the same process. Beside a running `embedfleet serve`, use
`open_guest(settings)` in place of `open_owner`, and leave out the orchestrator: the calls are the same.
"""

import asyncio
import tempfile

from embedfleet.bootstrap import open_owner
from embedfleet.errors import InvalidRequest, QuotaExceeded
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import load_settings
from embedfleet.tenant_access import TenantAccess

PAGE = b"<html><body><h1>Leases</h1><p>A silent worker loses its task to another.</p></body></html>"


async def main(data_dir: str) -> None:
    settings = load_settings(overrides={"data_dir": data_dir})
    stop = asyncio.Event()
    async with open_owner(settings, purpose="an application") as system:
        workers = asyncio.create_task(system.orchestrator.run(stop))
        try:
            await use(system.jobs.of("me"))
        except QuotaExceeded as exc:
            print(f"{exc.used} of {exc.limit} used, try again in {exc.retry_after} s")
        except InvalidRequest as exc:
            print(f"{exc.field}: {exc.reason}")
        finally:
            stop.set()
            await workers


async def use(mine: TenantAccess) -> None:
    text = await mine.create_job(media_id=1, content="Queues are fair.", metadata={"topic": "queues"})
    page = await mine.create_job_from_file(PAGE, name="leases.html", media_id=2)
    for job in (await mine.wait_many([text, page], timeout_seconds=60)).values():
        print(f"{job.media_id}: {job.status}")

    hits = await mine.search(SearchRequest(query="what if a machine dies?", limit=1))
    for hit in hits:
        print(f"found in {hit.source}: {hit.heading}")
    if hits.notice is not None:  # documents of another model, or none at all
        print(hits.notice)
    fair = await mine.search(SearchRequest(query="what if a machine dies?", where={"topic": "queues"}))
    print(f"{len(fair)} of that topic, exact: {fair.exact}")

    after = None
    while True:
        documents = await mine.list_documents(limit=1, after=after)
        for document in documents:
            print(f"{document.media_id}: {document.source}, {document.model}, {document.state}")
        after = documents.next_cursor
        if after is None:
            break


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
