"""What the router adds to a request: both paths do nothing, and are called straight or through the router.

    python benchmarks/traffic_router.py [--requests 20000] [--rounds 7]

The router follows an SQLite database and writes its counts there, as in use. Requests come one after the
other, as that shows the time that one of them waits. Straight and routed calls take turns within a round.
On a machine that is busy with other work, the processor time is the figure to read.
`both_remove`: each path has a `remove` that does nothing, and each document may be on both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath
from time import perf_counter, process_time

from report import write_report

from embedfleet.metrics import Metrics
from embedfleet.sql.database import Database
from embedfleet.traffic.paths import IngestRequest, IngestResult
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.state import TrafficState
from embedfleet.traffic.state_watch import FixedStates

ANSWER = IngestResult(chunks=3)
TENANTS = 200
Call = Callable[[IngestRequest], Awaitable[IngestResult]]


async def nothing(request: IngestRequest) -> IngestResult:
    return ANSWER


class RemovingNothing:
    async def __call__(self, request: IngestRequest) -> IngestResult:
        return ANSWER

    async def remove(self, tenant: str, media_id: str) -> None:
        return


async def microseconds(call: Call, requests: list[IngestRequest]) -> tuple[float, float]:
    """The wall time and the processor time of one request."""
    wall, processor = perf_counter(), process_time()
    for request in requests:
        await call(request)
    scale = 1e6 / len(requests)
    return (perf_counter() - wall) * scale, (process_time() - processor) * scale


async def measure(router: TrafficRouter, requests: list[IngestRequest], rounds: int) -> dict[str, object]:
    added: dict[str, list[float]] = {"wall": [], "processor": []}
    for _ in range(rounds):
        straight = await microseconds(nothing, requests)
        routed = await microseconds(router.ingest, requests)
        for kind, one, other in zip(added, routed, straight, strict=True):
            added[kind].append(one - other)
    return {
        f"added_{kind}_microseconds": {
            "median": round(statistics.median(found), 1),
            "lowest": round(min(found), 1),
            "highest": round(max(found), 1),
        }
        for kind, found in added.items()
    }


async def run(number: int, rounds: int) -> dict[str, object]:
    requests = [IngestRequest(f"tenant-{n % TENANTS}", str(n), "text") for n in range(number)]
    figures: dict[str, object] = {"requests": number, "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{FilePath(folder) / 'traffic.db'}")
        await database.open()
        for name, path in (("neither_removes", nothing), ("both_remove", RemovingNothing())):
            for percent in (0, 50, 100):
                router = TrafficRouter(
                    path,
                    path,
                    database=database,
                    states=FixedStates(TrafficState(change_id=1, percent=percent)),
                    metrics=Metrics(),
                )
                async with router:
                    figures[f"{name}_{percent}_percent"] = await measure(router, requests, rounds)
        await database.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    write_report("traffic_router", asyncio.run(run(options.requests, options.rounds)))


if __name__ == "__main__":
    main()
