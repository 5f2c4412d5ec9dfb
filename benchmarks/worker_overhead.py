"""CPU that a worker process of a fleet spends on a task beside the work itself.

    python benchmarks/worker_overhead.py [--tasks 2000] [--rounds 3] [--short]

One process runs a loop of one stage after the other until its queue is empty, over a Redis and a PostgreSQL
(without fsync: that of the tests) of this machine. The model is the stub, and the vector store keeps
nothing. So what is left is to claim, decode, read and write SQL, encode, pass on and ack; of the chunking
stage, whose task is a document, also the cutting. The figure is the CPU a task of that process, user and
system, of all its threads: it depends less than a time on what else runs on the machine. It is taken with one
task a claim, which is dearest, and with claims as large as the settings allow.

To compare two versions, run each with its own PYTHONPATH, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger
from report import write_report
from scaling_out import TASKS_OF_DOCUMENT, UNLIMITED, make_requests, make_settings

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.bootstrap import open_broker
from embedfleet.clock import SystemClock
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.leader.reconciler import Reconciler
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage
from embedfleet.settings import PoolsSettings, Settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.vectors.null import NullVectorStore
from embedfleet.workers.base_worker import StageLoop
from embedfleet.workers.canary import Canary
from embedfleet.workers.chunking_worker import Admittance, ChunkingLoop
from embedfleet.workers.embedding_worker import EmbeddingLoop
from embedfleet.workers.services import Services
from embedfleet.workers.storage_worker import StorageLoop
from support.databases import PostgresDatabases
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

STAGES = (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
CLAIMS = ("one", "full")


def pools(claims: str) -> PoolsSettings:
    """Pools without marks: a stage does all its tasks before the next one has a worker."""
    marks = {
        "max_queued_tasks": UNLIMITED.max_queued_tasks,
        "max_queued_tokens": UNLIMITED.max_queued_tokens,
    }
    default = PoolsSettings()
    of_one = {"batch_tasks": 1} if claims == "one" else {}
    return PoolsSettings(
        chunking=default.chunking.model_copy(update=of_one),
        embedding=default.embedding.model_copy(update=of_one | marks),
        storage=default.storage.model_copy(update=of_one | marks),
    )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Database, Broker]]:
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        stack.push_async_callback(database.close)
        await database.open()
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        yield database, broker


async def work(claims: str) -> None:
    """A worker process. Lines of standard input begin and end each stage; the answer is its CPU."""
    settings = Settings.from_json(sys.stdin.readline())
    async with opened(settings) as (database, broker):
        with ThreadPoolExecutor(1) as cpu:
            models = ModelPool(Catalogue(settings.models), settings.models)
            await models.get("stub")
            services = Services(broker, database, Metrics(), SystemClock(), pools(claims))
            admittance = Admittance(broker, services.pools, settings.tenants)
            loops: Sequence[StageLoop] = (
                ChunkingLoop(
                    "chunking",
                    services,
                    catalogue=Catalogue(settings.models),
                    cpu=cpu,
                    admittance=admittance,
                ),
                EmbeddingLoop(
                    "embedding",
                    services,
                    models=models,
                    canary=Canary(database, models, settings.models),
                    caching=False,
                ),
                StorageLoop("storage", services, store=NullVectorStore(), settings=settings.vector_store),
            )
            for loop in loops:
                await asyncio.to_thread(sys.stdin.readline)
                before = time.process_time()
                stop = asyncio.Event()
                working = asyncio.create_task(loop.run(stop))
                await asyncio.to_thread(sys.stdin.readline)
                print(time.process_time() - before, flush=True)
                stop.set()
                await working
            await models.close()


async def submit(settings: Settings, database: Database, broker: Broker, tasks: int) -> None:
    clock = SystemClock()
    jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
    await jobs.create_jobs(make_requests(tasks))
    reconciler = Reconciler(
        database=database, broker=broker, clock=clock, tenants=settings.tenants, metrics=Metrics()
    )
    while await reconciler.offer_jobs():
        pass


async def all_done(broker: Broker, stage: Stage, tasks: int) -> bool | None:
    return (await broker.depth(stage)).done >= tasks or None


async def cpu_of_tasks(settings: Settings, claims: str, tasks: int) -> dict[str, float]:
    """Milliseconds of CPU a task, by stage."""
    figures: dict[str, float] = {}
    async with opened(settings) as (database, broker):
        await submit(settings, database, broker, tasks)
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--work", claims, stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(settings.to_json().encode() + b"\n")
        for stage in STAGES:
            expected = tasks // TASKS_OF_DOCUMENT if stage is Stage.CHUNKING else tasks
            process.stdin.write(b"begin\n")
            await database.until(partial(all_done, broker, stage, expected))
            process.stdin.write(b"end\n")
            figures[stage.value] = 1000 * float(await process.stdout.readline()) / expected
        process.stdin.close()
        await process.wait()
    return figures


def one_round(postgres: PostgresDatabases, tasks: int) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU a task, by size of claims and stage."""
    figures: dict[str, dict[str, float]] = {}
    for claims in CLAIMS:
        with tempfile.TemporaryDirectory() as folder, RedisServer() as redis, postgres.migrated() as url:
            settings = make_settings(Path(folder), redis={"url": redis.url}, database={"url": url})
            figures[claims] = asyncio.run(cpu_of_tasks(settings, claims, tasks))
    return figures


def summary(rounds: Sequence[Mapping[str, Mapping[str, float]]], tasks: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"tasks": tasks, "rounds": len(rounds), "unit": "ms of CPU a task"}
    for claims in CLAIMS:
        for stage in STAGES:
            values = sorted(found[claims][stage.value] for found in rounds)
            figures[f"{stage.value}, {claims} a claim"] = {
                "median": round(statistics.median(values), 3),
                "least": round(values[0], 3),
                "most": round(values[-1], 3),
            }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one round, few tasks: for CI")
    parser.add_argument("--work", choices=CLAIMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    if arguments.work:
        asyncio.run(work(arguments.work))
        return
    tasks, count = (200, 1) if arguments.short else (arguments.tasks, arguments.rounds)
    with PostgresServer() as server:
        postgres = PostgresDatabases(server)
        rounds = [one_round(postgres, tasks) for _ in range(count)]
    write_report("worker_overhead", summary(rounds, tasks))


if __name__ == "__main__":
    main()
