"""Throughput of the embedding stage with 1 to 16 worker processes whose model takes 50 ms a task.

    python benchmarks/scaling_out_processes.py [--rounds 3] [--short]

As `scaling_out.py`, but every worker is a process, over a Redis and a PostgreSQL (without fsync: that of the
tests) of this machine; the drain is in this one. The clock starts when all processes have loaded their model.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path

from loguru import logger
from report import write_report
from scaling_out import WORKERS, chunk_all, drain, embedding_loops, make_settings, summary

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.bootstrap import open_broker
from embedfleet.settings import Settings
from embedfleet.sql.opening import open_database
from support.databases import PostgresDatabases
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer


async def work() -> None:
    """A worker process: settings come by standard input, then the start; its end is the end."""
    settings = Settings.from_json(sys.stdin.readline())
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        stack.push_async_callback(database.close)
        await database.open()
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        (loop,) = await stack.enter_async_context(embedding_loops(1, settings, database, broker))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        stop = asyncio.Event()
        working = asyncio.create_task(loop.run(stop))
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await working


async def started(settings: Settings) -> Process:
    """A worker process that is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--work", stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings.to_json().encode() + b"\n")
    assert await process.stdout.readline() == b"ready\n"
    return process


async def tasks_per_second(settings: Settings, number: int, tasks: int) -> float:
    """From the start of the workers until the last task has reached the drain."""
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        stack.push_async_callback(database.close)
        await database.open()
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        await chunk_all(settings, database, broker, tasks)
        processes = await asyncio.gather(*(started(settings) for _ in range(number)))
        begun = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        await drain(broker, tasks)
        seconds = time.perf_counter() - begun
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
    return tasks / seconds


def one_round(postgres: PostgresDatabases, tasks_of_worker: int) -> dict[int, float]:
    """Tasks a second by number of workers."""
    speeds: dict[int, float] = {}
    for number in WORKERS:
        with tempfile.TemporaryDirectory() as folder, RedisServer() as redis, postgres.migrated() as url:
            settings = make_settings(Path(folder), redis={"url": redis.url}, database={"url": url})
            speeds[number] = asyncio.run(tasks_per_second(settings, number, number * tasks_of_worker))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one round, a fifth of the tasks: for CI")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    if arguments.work:
        asyncio.run(work())
        return
    with PostgresServer() as server:
        postgres = PostgresDatabases(server)
        count = 1 if arguments.short else arguments.rounds
        rounds = [one_round(postgres, 20 if arguments.short else 100) for _ in range(count)]
    write_report("scaling_out_processes", summary(rounds))


if __name__ == "__main__":
    main()
