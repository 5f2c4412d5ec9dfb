"""Throughput of the embedding stage with 1 to 16 workers whose model takes 50 ms a task.

    python benchmarks/scaling_out.py [--broker memory] [--rounds 3] [--short]

Each worker is one `EmbeddingLoop` with a model and a model thread of its own and claims one task at a
time. The batches are those of real jobs in SQLite (`synchronous=full`), made by a chunking worker before
the clock starts; what is embedded goes to a drain that acks it. The model sleeps, so what keeps the
throughput below n times that of one worker is embedfleet's own work, here all in one process;
`scaling_out_processes.py` has a process a worker, as a fleet does.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from brokers import BROKERS, OpenBroker
from loguru import logger
from numpy.typing import NDArray
from report import write_report

from embedfleet.clock import SystemClock
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.leader.reconciler import Reconciler
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import MAX_COST, Broker
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod, JobRequest, Stage, UserTier
from embedfleet.settings import EmbeddingPoolSettings, PoolsSettings, Settings, load_settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.workers.canary import Canary
from embedfleet.workers.chunking_worker import Admittance, ChunkingLoop
from embedfleet.workers.embedding_worker import EmbeddingLoop
from embedfleet.workers.services import Services

WORKERS = (1, 2, 4, 8, 16)
TASK_SECONDS = 0.05
CHUNKS_OF_TASK = 4
TASKS_OF_DOCUMENT = 10
TENANTS = 8
UNLIMITED = EmbeddingPoolSettings(batch_tasks=1, max_queued_tasks=1_000_000, max_queued_tokens=MAX_COST)
POOLS = PoolsSettings(chunking=UNLIMITED, embedding=UNLIMITED, storage=UNLIMITED)


class SleepyBackend:
    """Another backend, made slower."""

    def __init__(self, inner: EmbeddingBackend) -> None:
        self._inner = inner

    @property
    def info(self) -> ModelInfo:
        return self._inner.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        time.sleep(TASK_SECONDS)
        return self._inner.embed_tokens(batch)

    def close(self) -> None:
        self._inner.close()


class SleepyCatalogue(Catalogue):
    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        return SleepyBackend(super().open(name, device))


def make_settings(directory: Path, **overrides: Any) -> Settings:
    own = {
        "data_dir": str(directory),
        "models": {"default": "stub"},
        "chunking": {"batch_chunks": CHUNKS_OF_TASK},
    }
    return load_settings(environ={}, overrides=own | overrides)


def make_requests(tasks: int) -> list[JobRequest]:
    """Documents whose batches are so many tasks together, each of four paragraphs of its own."""
    chunking = ChunkingConfig(chunk_size=400, overlap=0, method=ChunkMethod.PARAGRAPHS)
    paragraphs = CHUNKS_OF_TASK * TASKS_OF_DOCUMENT
    return [
        JobRequest(
            media_id=str(number),
            user_id=f"tenant{number % TENANTS}",
            user_tier=UserTier.ENTERPRISE,
            content="\n\n".join(f"{number} {p}: " + f"word{p} " * 40 for p in range(paragraphs)),
            chunking_config=chunking,
        )
        for number in range(tasks // TASKS_OF_DOCUMENT)
    ]


def services(broker: Broker, database: Database) -> Services:
    return Services(broker, database, Metrics(), SystemClock(), POOLS)


async def chunk_all(settings: Settings, database: Database, broker: Broker, tasks: int) -> None:
    """Submit the documents and cut them; then the tasks wait in the embedding queue."""
    clock = SystemClock()
    jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
    await jobs.create_jobs(make_requests(tasks))
    reconciler = Reconciler(
        database=database, broker=broker, clock=clock, tenants=settings.tenants, metrics=Metrics()
    )
    while await reconciler.offer_jobs():
        pass

    async def all_queued() -> bool | None:
        return (await broker.depth(Stage.EMBEDDING)).ready >= tasks or None

    stop = asyncio.Event()
    with ThreadPoolExecutor(1) as cpu:
        loop = ChunkingLoop(
            "chunking",
            services(broker, database),
            catalogue=Catalogue(settings.models),
            cpu=cpu,
            admittance=Admittance(broker, POOLS, settings.tenants),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.run(stop))
            await database.until(all_queued)
            stop.set()


async def drain(broker: Broker, tasks: int) -> None:
    """Ack what is to be stored, until it was all."""
    while tasks:
        await broker.wait_for_ready(Stage.STORAGE, timeout_seconds=1.0)
        leases = await broker.claim(
            Stage.STORAGE, worker="drain", max_tasks=100, max_cost=MAX_COST, lease_seconds=60
        )
        await broker.ack(leases)
        tasks -= len(leases)


@asynccontextmanager
async def embedding_loops(
    number: int, settings: Settings, database: Database, broker: Broker
) -> AsyncIterator[list[EmbeddingLoop]]:
    """Workers that are ready to run, each with its model loaded and checked."""
    async with AsyncExitStack() as stack:
        loops: list[EmbeddingLoop] = []
        for index in range(number):
            models = ModelPool(SleepyCatalogue(settings.models), settings.models)
            stack.push_async_callback(models.close)
            canary = Canary(database, models, settings.models)
            async with models.using("stub") as runner:
                await canary.check_if_due(runner)  # else the first claim does: most of a second of CPU
            loops.append(
                EmbeddingLoop(
                    f"embedding-{index}",
                    services(broker, database),
                    models=models,
                    canary=canary,
                    caching=False,
                )
            )
        yield loops


async def tasks_per_second(open_broker: OpenBroker, number: int, tasks: int, directory: Path) -> float:
    """From the start of the workers until the last task has reached the drain."""
    settings = make_settings(directory)
    database = open_database(settings)
    async with open_broker(SystemClock()) as broker, AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await database.open()
        await chunk_all(settings, database, broker, tasks)
        loops = await stack.enter_async_context(embedding_loops(number, settings, database, broker))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            started = time.perf_counter()
            for loop in loops:
                group.create_task(loop.run(stop))
            await drain(broker, tasks)
            seconds = time.perf_counter() - started
            stop.set()
    return tasks / seconds


def one_round(open_broker: OpenBroker, tasks_of_worker: int) -> dict[int, float]:
    """Tasks a second by number of workers."""
    speeds: dict[int, float] = {}
    for number in WORKERS:
        with tempfile.TemporaryDirectory() as scratch:
            tasks = number * tasks_of_worker
            speeds[number] = asyncio.run(tasks_per_second(open_broker, number, tasks, Path(scratch)))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", choices=sorted(BROKERS), default="memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one round, a fifth of the tasks: for CI")
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    count = 1 if arguments.short else arguments.rounds
    rounds = [one_round(BROKERS[arguments.broker], 20 if arguments.short else 100) for _ in range(count)]
    write_report(f"scaling_out_{arguments.broker}", {"broker": arguments.broker} | summary(rounds))


def summary(rounds: Sequence[Mapping[int, float]]) -> dict[str, Any]:
    """Of rounds of tasks a second by number of workers: medians, and how far they are from linear."""
    figures: dict[str, Any] = {
        "task_seconds": TASK_SECONDS,
        "rounds": len(rounds),
        "target": "tasks a second with 16 workers >= 0.9 x 16 x those with one",
    }
    for number in WORKERS:
        speeds = sorted(speed[number] for speed in rounds)
        ratios = sorted(speed[number] / (number * speed[1]) for speed in rounds)
        figures[f"{number} workers"] = {
            "tasks_per_second": round(statistics.median(speeds), 2),
            "of_linear": round(statistics.median(ratios), 3),
            "of_linear_least": round(ratios[0], 3),
            "of_linear_most": round(ratios[-1], 3),
        }
    return figures


if __name__ == "__main__":
    main()
