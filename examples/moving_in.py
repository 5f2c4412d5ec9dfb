"""An application that moves to the fleet: its old path, the fleet, and a router between the two.

python examples/moving_in.py               # documents come until it is interrupted
python examples/moving_in.py 200           # 200 documents

While it runs, move it with `embedfleet traffic`, in another terminal with the same data directory. Here the
orchestrator runs in the same process. Beside a running fleet, use `open_guest(settings)` in place of
`open_owner`, and leave out the orchestrator: the calls are the same.
"""

import asyncio
import itertools
import sys
from collections import Counter
from contextlib import suppress

from embedfleet.bootstrap import open_owner
from embedfleet.settings import load_settings
from embedfleet.traffic import (
    FleetInReach,
    FleetPath,
    IngestRequest,
    IngestResult,
    Shadow,
    StoreVectors,
    TrafficRouter,
)

TENANTS = 40
AT_ONCE = 16


class OldPath:
    """What the application has today: it chunks, embeds and stores while the request waits."""

    def __init__(self) -> None:
        self.shelf: dict[tuple[str, str], list[str]] = {}

    async def __call__(self, request: IngestRequest) -> IngestResult:
        chunks = request.content.split("\n\n")
        await asyncio.sleep(0.2)  # a call of a model
        self.shelf[request.tenant, request.media_id] = chunks
        return IngestResult(chunks=len(chunks))

    async def remove(self, tenant: str, media_id: str) -> None:
        self.shelf.pop((tenant, media_id), None)


async def main(documents: int | None) -> None:
    stop = asyncio.Event()
    async with open_owner(load_settings(), purpose="an application that moves") as system:
        workers = asyncio.create_task(system.orchestrator.run(stop))
        old_path, fleet = OldPath(), FleetPath(system.jobs.of, wait_seconds=30)
        database = system.database
        beside = FleetInReach(system.jobs.of, StoreVectors(system.store), database)
        try:
            async with (
                Shadow(database, beside) as shadow,
                TrafficRouter(old_path, fleet, database=database, shadow=shadow) as router,
            ):
                print(await requests(router, documents))
        finally:
            stop.set()
            await workers


async def requests(router: TrafficRouter, documents: int | None) -> str:
    """Ingest documents, some at a time. Return how many went which way."""
    went: Counter[str] = Counter()
    numbers = itertools.count() if documents is None else iter(range(documents))

    async def ingest() -> None:
        for number in numbers:
            tenant = f"tenant-{number % TENANTS}"
            # Of some documents the old path makes more chunks than the fleet.
            content = f"Document {number}." + ("\n\nA second part." if number % 200 == 0 else "")
            request = IngestRequest(tenant=tenant, media_id=str(number), content=content)
            result = await router.ingest(request)
            went[str(result.path)] += 1

    await asyncio.gather(*(ingest() for _ in range(AT_ONCE)))
    return ", ".join(f"{path}: {number}" for path, number in sorted(went.items()))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else None))
