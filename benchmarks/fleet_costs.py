"""What a chunk costs a fleet outside of its model and its vector store: SQL, Redis, processor time, bytes.

    python benchmarks/fleet_costs.py [--documents 400] [--short]

Redis, PostgreSQL (of the tests: no fsync, no full pages in its log) and worker processes on this machine,
with the stub model, whose vectors are short, and a store that keeps nothing. The servers count for
themselves: PostgreSQL its commits, its log and the size of its database, Redis its calls and its bytes.
Processor time is that of each server and of the workers of each stage. Documents of many chunks, and small
ones.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg
from corpus import job_requests, slices
from report import write_report
from storeless_fleet import StorelessFleet, storeless_fleet

from embedfleet.paging import pages
from embedfleet.queue_schemas import ChunkingConfig

CHUNK_CHARS = 1_000
SIZES: Mapping[str, int] = {"documents of many chunks": 60_000, "documents of one or two": 900}
"""Characters of a document."""


class Servers:
    """The counts of both servers and the processor time of everything, at one moment."""

    def __init__(self, fleet: StorelessFleet) -> None:
        with psycopg.connect(fleet.database_url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(current_database()),"
                " (SELECT sum(xact_commit) FROM pg_stat_database), pg_backend_pid()"
            ).fetchone()
        assert row is not None
        self.log_bytes, self.database_bytes, self.commits = int(row[0]), int(row[1]), int(row[2])
        with fleet.redis.client() as client:
            info = client.info("everything")
        self.redis_bytes = info["total_net_input_bytes"] + info["total_net_output_bytes"]
        self.redis_calls = info["total_commands_processed"]
        self.cpu_seconds = _processor_times()
        self.at = time.perf_counter()


def _processor_times() -> dict[str, float]:
    """Seconds so far of the processes that descend from this one, by what they are."""
    found: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            title = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        kind = _kind(title)
        found[kind] = found.get(kind, 0.0) + times.user + times.system
    return found


def _kind(title: str) -> str:
    if "postgres" in title:
        return "postgresql"
    if "redis-server" in title:
        return "redis"
    if title.startswith("embedfleet: "):
        return title.removeprefix("embedfleet: ").partition("-")[0]
    return "orchestrator"


async def measure(characters: int, documents: int) -> dict[str, Any]:
    """Costs a chunk of this many documents of this many characters."""
    chunking = ChunkingConfig(chunk_size=CHUNK_CHARS, overlap=0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        async with storeless_fleet(Path(scratch), {"models": {"default": "stub"}}) as fleet:
            requests = list(job_requests(list(slices(documents + 1, characters)), chunking))
            await _stored(fleet, requests[:1])  # all processes are warm, all statements are prepared
            before = Servers(fleet)
            chunks = await _stored(fleet, requests[1:])
            after = Servers(fleet)
    seconds = after.at - before.at

    def a_chunk(name: str) -> float:
        return float(round((getattr(after, name) - getattr(before, name)) / chunks, 3))

    return {
        "documents": documents,
        "chunks": chunks,
        "chunks_per_second": round(chunks / seconds, 1),
        "a_chunk": {
            "postgresql_commits": a_chunk("commits"),
            "postgresql_log_bytes": a_chunk("log_bytes"),
            "postgresql_database_bytes": a_chunk("database_bytes"),
            "redis_calls_and_their_commands": a_chunk("redis_calls"),
            "redis_network_bytes": a_chunk("redis_bytes"),
            "cpu_us": {
                kind: round(1e6 * (used - before.cpu_seconds.get(kind, 0.0)) / chunks, 1)
                for kind, used in sorted(after.cpu_seconds.items())
            },
        },
    }


async def _stored(fleet: StorelessFleet, requests: list[Any]) -> int:
    job_ids: list[str] = []
    for some in pages(requests, 256):
        job_ids += await fleet.jobs.create_jobs(some)
    return sum([info.progress.chunks_stored async for info in fleet.jobs.as_completed(job_ids)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--documents", type=int, default=100, help="of many chunks; ten times as many small ones"
    )
    parser.add_argument("--short", action="store_true", help="few documents: does it run at all")
    arguments = parser.parse_args()
    documents = 3 if arguments.short else arguments.documents
    large, small = SIZES
    figures = {
        large: asyncio.run(measure(SIZES[large], documents)),
        small: asyncio.run(measure(SIZES[small], 10 * documents)),
    }
    write_report("fleet_costs", figures)


if __name__ == "__main__":
    main()
