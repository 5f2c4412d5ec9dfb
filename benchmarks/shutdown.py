"""Figure R13: an orchestrator under load is told to stop, again and again.

    python benchmarks/shutdown.py [--stops 100] [--short]

Real processes on Redis, PostgreSQL and a Chroma server (those of the tests). Each round starts an
orchestrator with two workers of each stage, gives it a document, waits until its chunks are being stored,
sends SIGTERM, and measures until it has ended. Counted: exit codes other than 0, leases left, second
deliveries (expired leases and retries), and at the end what an exhaustive comparison of SQL and store finds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.bootstrap import GuestSystem
from embedfleet.queue_schemas import UserTier
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.fleet import Fleet, Orchestrator, ended, more_stored, stored
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer
from support.system import ONE_EACH, paragraphs

CHUNKS_PER_JOB = 400


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--short", action="store_true", help="one stop: for CI")
    arguments = parser.parse_args()
    stops = 1 if arguments.short else arguments.stops
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as redis,
        PostgresServer() as postgres,
        ChromaServer(Path(folder, "chroma")) as chroma,
        PostgresDatabases(postgres).migrated() as database,
    ):
        fleet = Fleet(Path(folder), _config(folder, redis.url, database, chroma.url))
        async with fleet.guest() as guest:
            write_report("shutdown", await rounds(fleet, guest, stops, partial(_submit, guest)))


async def rounds(
    fleet: Fleet, guest: GuestSystem, stops: int, submit: Callable[[int], Awaitable[str]]
) -> dict[str, object]:
    """So many stops; `submit` queues the document of a round, of `CHUNKS_PER_JOB` chunks, and returns its
    job's id."""
    seconds: list[float] = []
    codes: list[int] = []
    left = again = in_the_middle = 0
    jobs: list[str] = []
    longest_batch = 0.0
    for number in range(stops):
        with fleet.orchestrator("--workers", "2") as one:
            before = await stored(guest, jobs)
            jobs.append(await submit(number))
            await more_stored(guest, jobs, before)
            again += _second_deliveries(one)
            longest_batch = max(longest_batch, _mean_batch_seconds(one))
            started = perf_counter()
            codes.append(one.stop())
            seconds.append(perf_counter() - started)
        in_the_middle += await stored(guest, jobs) < CHUNKS_PER_JOB * len(jobs)
        left += sum(depth.leased for depth in (await fleet.depths()).values())
        print(f"{number + 1}/{stops}: {seconds[-1]:.2f} s", file=sys.stderr)
    with fleet.orchestrator("--workers", "2") as one:
        infos = await ended(guest, jobs)
        again += _second_deliveries(one)
    ledger = await fleet.ledger(guest)
    return {
        "stops": stops,
        "exit_codes_not_0": sum(code != 0 for code in codes),
        "exit_seconds_median": round(median(seconds), 2),
        "exit_seconds_most": round(max(seconds), 2),
        "mean_claim_seconds_most": round(longest_batch, 3),
        "leases_left": left,
        "second_deliveries": again,
        "stopped_in_the_middle": in_the_middle,
        "jobs_completed": sum(info.status == "completed" for info in infos),
        "jobs": len(jobs),
        "vectors_promised": len(ledger.promised),
        "vectors_missing": len(ledger.promised - ledger.held),
        "vectors_surplus": len(ledger.held - ledger.promised),
    }


async def _submit(guest: GuestSystem, number: int) -> str:
    return await guest.jobs.create_job(
        media_id=str(number),
        user_id="alice",
        user_tier=UserTier.PREMIUM,
        content=paragraphs(f"document{number}", CHUNKS_PER_JOB),
        chunking_config=ONE_EACH,
    )


def _second_deliveries(one: Orchestrator) -> int:
    return int(one.metric("embedding_lease_expiries_total") + one.metric("embedding_retries_total"))


def _mean_batch_seconds(one: Orchestrator) -> float:
    """Of the slowest stage, of its claims so far."""
    stages = ("chunking", "embedding", "storage")
    counts = {stage: one.metric("embedding_stage_latency_seconds_count", stage=stage) for stage in stages}
    means = (
        one.metric("embedding_stage_latency_seconds_sum", stage=stage) / counts[stage]
        for stage in stages
        if counts[stage]
    )
    return max(means, default=0.0)  # workers report once a second: nothing may have come yet


def _config(folder: str, redis_url: str, database_url: str, chroma_url: str) -> dict[str, object]:
    return {
        "data_dir": folder,
        "redis": {"url": redis_url},
        "database": {"url": database_url},
        "vector_store": {"url": chroma_url},
        "models": {"default": "stub"},
        "chunking": {"batch_chunks": 4},
    }


if __name__ == "__main__":
    asyncio.run(main())
