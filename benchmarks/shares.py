"""Figure S11: do the tenants' shares of finished chunks follow their weights, whichever stage is slow?

    python benchmarks/shares.py [--systems embedded fleet] [--short]

The settings are the defaults, but for directories, URLs and the model (`stub`). Tenants of the four tiers
have more documents waiting than finish in the window, of three chunks each. One stage takes a fixed time for
each chunk (`slow_stages`), so it is the bottleneck on any machine. The window begins when as many jobs have
finished as the largest claims hold. It ends before the first tenant has nothing left to claim. The figure is
the largest error of a tenant's share of the chunks, relative to its weight.

In the scenario `huge`, every second tenant has a document of thousands of chunks before all others. What is
stored of it counts as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loguru import logger
from report import write_report
from slow_stages import STAGES, make_slow

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.bootstrap import open_owner
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.paging import pages
from embedfleet.queue_schemas import JobInfo, JobRequest, Stage, UserTier
from embedfleet.settings import load_settings
from support.databases import PostgresDatabases
from support.fleet import Fleet
from support.import_path import import_path
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

WEIGHTS: Mapping[UserTier, int] = {
    UserTier.FREE: 1,
    UserTier.BASIC: 2,
    UserTier.PREMIUM: 4,
    UserTier.ENTERPRISE: 8,
}
CHUNKS_OF_SMALL = 3
FILLED_JOBS = 192
"""The window begins after so many jobs: a claim of embedding and one of storage, with the defaults."""
SLACK_JOBS = 200
"""A tenant's jobs that may be under way: with fewer left, it may have nothing to claim."""
MOST_OFF = 0.05

Start = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who has what to do. `huge_chunks`: of the document that every second tenant has before all others."""

    tenants: Mapping[str, UserTier]
    jobs_per_weight: int
    slow: Stage
    seconds_per_chunk: float
    huge_chunks: int = 0

    def documents_of(self, tenant: str) -> int:
        return self.jobs_per_weight * WEIGHTS[self.tenants[tenant]] + SLACK_JOBS

    @property
    def with_huge(self) -> Sequence[str]:
        return list(self.tenants)[1::2] if self.huge_chunks else []


@dataclass(frozen=True, slots=True)
class System:
    """A system that has everything but workers, which run inside `working`."""

    jobs: EmbeddingJobManager
    working: Start


def two_tenants() -> dict[str, UserTier]:
    return {"enterprise": UserTier.ENTERPRISE, "free": UserTier.FREE}


def twenty_tenants() -> dict[str, UserTier]:
    return {f"{tier.value}-{number}": tier for number in range(5) for tier in WEIGHTS}


@asynccontextmanager
async def embedded(folder: Path, scenario: Scenario) -> AsyncIterator[System]:
    """Run the system in this process."""
    settings = load_settings(environ={}, overrides={"data_dir": str(folder), "models": {"default": "stub"}})
    store = make_slow(scenario.slow, scenario.seconds_per_chunk)
    async with open_owner(settings, purpose="benchmark", store=store) as system:

        @asynccontextmanager
        async def working() -> AsyncIterator[None]:
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(system.orchestrator.run(stop))
                yield
                stop.set()

        yield System(system.jobs, working)


@asynccontextmanager
async def fleet(folder: Path, scenario: Scenario) -> AsyncIterator[System]:
    """Run worker processes on Redis and PostgreSQL of this machine; we are another process."""
    with (
        RedisServer() as redis,
        PostgresServer() as postgres,
        PostgresDatabases(postgres).migrated() as database,
    ):
        config: dict[str, Any] = {
            "data_dir": str(folder),
            "redis": {"url": redis.url},
            "database": {"url": database},
            "vector_store": {"url": "http://127.0.0.1:9"},  # of no use: nothing is stored
            "models": {"default": "stub"},
        }
        environment = {
            "PYTHONPATH": import_path(Path(__file__).parent),
            "SLOW_STAGE": scenario.slow.value,
            "SLOW_SECONDS": str(scenario.seconds_per_chunk),
        }
        servers = Fleet(folder, config, module="slow_stages", environment=environment)

        @asynccontextmanager
        async def working() -> AsyncIterator[None]:
            with servers.orchestrator():
                yield

        async with servers.guest() as guest:
            yield System(guest.jobs, working)


SYSTEMS = {"embedded": embedded, "fleet": fleet}


def text_of(name: str, chunks: int) -> str:
    """Return paragraphs of one chunk each. No two are alike, so that the cache knows none of them."""
    return "\n\n".join(f"paragraph {number} of {name}. " + "word " * 150 for number in range(chunks))


async def submit(jobs: EmbeddingJobManager, scenario: Scenario) -> tuple[list[str], dict[str, str]]:
    """Submit all documents, the tenants in turn. Return the ids of small jobs, and of huge ones by tenant."""

    def request(tenant: str, media_id: str, chunks: int) -> JobRequest:
        tier, text = scenario.tenants[tenant], text_of(media_id, chunks)
        return JobRequest(media_id=media_id, user_id=tenant, user_tier=tier, content=text)

    huge = [request(tenant, "huge", scenario.huge_chunks) for tenant in scenario.with_huge]
    huge_ids = await jobs.create_jobs(huge) if huge else []
    most = max(map(scenario.documents_of, scenario.tenants))
    small = [
        request(tenant, str(number), CHUNKS_OF_SMALL)
        for number in range(most)
        for tenant in scenario.tenants
        if number < scenario.documents_of(tenant)
    ]
    small_ids: list[str] = []
    for some in pages(small, 500):
        small_ids += await jobs.create_jobs(some)
    return small_ids, dict(zip(scenario.with_huge, huge_ids, strict=True))


@dataclass(frozen=True, slots=True)
class Look:
    """The chunks stored of huge documents at a moment, by tenant."""

    at: datetime
    of_huge: Counter[str]


async def chunks_of_window(system: System, scenario: Scenario) -> Counter[str]:
    """Return the chunks of each tenant that were stored in the window."""
    small, huge = await submit(system.jobs, scenario)
    finished: list[JobInfo] = []
    count: Counter[str] = Counter()
    begin: Look | None = None
    end: Look | None = None
    async with system.working():
        async for job in system.jobs.as_completed(small):
            finished.append(job)
            count[job.tenant] += 1
            if begin is None and len(finished) >= FILLED_JOBS:
                begin = await look(system.jobs, huge)
            if end is None and count[job.tenant] >= scenario.documents_of(job.tenant) - SLACK_JOBS:
                end = await look(system.jobs, huge)
            # The ends of jobs are heard of a little later than they are.
            if end is not None and datetime.now(UTC) >= end.at + timedelta(seconds=1):
                break
    assert begin is not None
    assert end is not None
    chunks = Counter(end.of_huge)
    chunks.subtract(begin.of_huge)
    for job in finished:
        if job.finished_at is not None and begin.at < job.finished_at <= end.at:
            chunks[job.tenant] += job.progress.chunks_stored
    return chunks


async def look(jobs: EmbeddingJobManager, huge: Mapping[str, str]) -> Look:
    at = datetime.now(UTC)
    return Look(
        at,
        Counter(
            {
                tenant: (await jobs.get_job_status(job_id)).progress.chunks_stored
                for tenant, job_id in huge.items()
            }
        ),
    )


async def measured(system: str, scenario: Scenario) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with SYSTEMS[system](Path(folder), scenario) as opened:
            chunks = await chunks_of_window(opened, scenario)
    weights = sum(WEIGHTS[tier] for tier in scenario.tenants.values())
    errors = {
        tenant: chunks[tenant] / chunks.total() * weights / WEIGHTS[tier] - 1
        for tenant, tier in scenario.tenants.items()
    }
    worst = max(errors, key=lambda tenant: abs(errors[tenant]))
    return {
        "system": system,
        "slow_stage": scenario.slow.value,
        "tenants": len(scenario.tenants),
        "huge_chunks": scenario.huge_chunks,
        "chunks_in_window": chunks.total(),
        "chunks_of_tenants": dict(chunks) if len(chunks) < 5 else None,
        "largest_error_percent": round(100 * abs(errors[worst]), 2),
        "tenant": worst,
        "within_target": abs(errors[worst]) <= MOST_OFF,
    }


def scenarios(*, short: bool) -> list[Scenario]:
    """Each of the stages slow, for two tenants and for twenty; with huge documents too."""
    two, twenty = (60, 10) if short else (120, 40)
    pace = 0.002 if short else 0.004
    stages = (Stage.EMBEDDING,) if short else STAGES
    small = [
        Scenario(tenants, jobs, stage, pace)
        for stage in stages
        for tenants, jobs in ((two_tenants(), two), (twenty_tenants(), twenty))
    ]
    huge = [
        # More jobs: huge documents are stored in batches of 64 chunks, and a tenant should have a dozen.
        Scenario(tenants, jobs, Stage.EMBEDDING, 0.002, huge_chunks=5_000)
        for tenants, jobs in ((two_tenants(), 400), (twenty_tenants(), 100))
    ]
    return small[:1] if short else small + huge


def run_apart(system: str, number: int, *, short: bool) -> dict[str, Any]:
    """Measure in a process of its own, as a slow stage stays slow in its process."""
    command = [sys.executable, __file__, "--one", system, str(number), *(["--short"] if short else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=dict(os.environ))
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(figures, file=sys.stderr, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", choices=sorted(SYSTEMS), default=sorted(SYSTEMS))
    parser.add_argument("--short", action="store_true", help="one scenario with few documents")
    parser.add_argument(
        "--one", nargs=2, metavar=("SYSTEM", "NUMBER"), help="print the figures of one scenario"
    )
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    wanted = scenarios(short=arguments.short)
    if arguments.one:
        system, number = arguments.one
        print(json.dumps(asyncio.run(measured(system, wanted[int(number)]))))
        return
    figures = [
        run_apart(system, number, short=arguments.short)
        for system in arguments.systems
        for number in range(len(wanted))
    ]
    write_report("shares", {"target": "within 5 % of the weights", "scenarios": figures})


if __name__ == "__main__":
    main()
