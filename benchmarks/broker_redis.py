"""How fast `RedisBroker` enqueues, claims and acks with a million tasks queued, for few and for many tenants.

    python benchmarks/broker_redis.py [RESULT.json] [--tasks N] [--short] [--url redis://...]

One client process, one event loop, a server of its own on a unix socket (or the one of --url, which must
be empty). A claim takes up to 8 tasks and every task is acked: by a call of its own, or by one call for the
whole claim (at once). The ways take turns within the run, so the machine's moods meet all alike; figures are
medians over the rounds, with the slowest and the fastest.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from report import write_report

from embedfleet.queue.broker import MAX_COST, Task
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.redis_server import redis_settings

STAGE = Stage.EMBEDDING
TENANTS = (10, 10_000)
CLAIM_TASKS = 8
OFFER_TASKS = 1_000


@dataclass
class Times:
    """Of one number of tenants; `rates` are tasks per second of a round."""

    tenants: int
    enqueue_rates: list[float] = field(default_factory=list)
    one_by_one_rates: list[float] = field(default_factory=list)
    at_once_rates: list[float] = field(default_factory=list)
    claim_seconds: list[float] = field(default_factory=list)
    offer_seconds: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "tenants": self.tenants,
            "enqueued_1000_a_call_per_second": spread(self.enqueue_rates),
            "claimed_and_acked_one_by_one_per_second": spread(self.one_by_one_rates),
            "claimed_and_acked_at_once_per_second": spread(self.at_once_rates),
            "claim_of_8_ms": percentiles(self.claim_seconds),
            "enqueue_of_1_ms": percentiles(self.offer_seconds),
        }


def spread(rates: Sequence[float]) -> dict[str, int]:
    return {
        "median": round(statistics.median(rates)),
        "slowest": round(min(rates)),
        "fastest": round(max(rates)),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {name: round(1e3 * ordered[index], 3) for name, index in at.items()}


def make_tasks(tenants: int, first: int, count: int, name: str = "task") -> list[Task]:
    """Of mixed cost and priority, tenants taking turns."""
    rng = random.Random(first)
    return [
        Task(
            id=f"{name}{i}",
            tenant=f"tenant{i % tenants}",
            job_id=f"job{i // 100}",
            cost=rng.randint(1, 16_384),
            payload=b"",
            priority=rng.choice((0, 50, 100)),
        )
        for i in range(first, first + count)
    ]


async def fill(broker: RedisBroker, times: Times, queued: int) -> None:
    for first in range(0, queued, OFFER_TASKS):
        tasks = make_tasks(times.tenants, first, min(OFFER_TASKS, queued - first))
        began = time.perf_counter()
        await broker.enqueue(STAGE, tasks)
        times.enqueue_rates.append(len(tasks) / (time.perf_counter() - began))


async def take_round(broker: RedisBroker, times: Times, claims: int, *, at_once: bool) -> float:
    """Claim and ack; returns tasks per second."""
    served = 0
    began = time.perf_counter()
    for _ in range(claims):
        claim_began = time.perf_counter()
        leases = await broker.claim(
            STAGE, worker="bench", max_tasks=CLAIM_TASKS, max_cost=MAX_COST, lease_seconds=60
        )
        times.claim_seconds.append(time.perf_counter() - claim_began)
        if at_once:
            await broker.ack(leases)
        else:
            for lease in leases:
                await broker.ack([lease])
        served += len(leases)
    return served / (time.perf_counter() - began)


async def offer_round(broker: RedisBroker, times: Times, round_number: int, offers: int) -> None:
    for task in make_tasks(times.tenants, 0, offers, name=f"late{round_number}-"):
        began = time.perf_counter()
        await broker.enqueue(STAGE, [task])
        times.offer_seconds.append(time.perf_counter() - began)


async def measure(url: str, queued: int, rounds: int, claims: int) -> list[Times]:
    """Both numbers of tenants on one server, taking turns."""
    sides: list[tuple[RedisBroker, Times]] = []
    for tenants in TENANTS:
        options = redis_settings(url, key_prefix=f"bench-{tenants}", socket_timeout_seconds=60)
        broker, times = await RedisBroker.open(options), Times(tenants)
        await fill(broker, times, queued)
        sides.append((broker, times))
    for round_number in range(rounds):
        for broker, times in sides:
            times.one_by_one_rates.append(await take_round(broker, times, claims, at_once=False))
            times.at_once_rates.append(await take_round(broker, times, claims, at_once=True))
            await offer_round(broker, times, round_number, claims)
    for broker, _ in sides:
        await broker.close()
    return [times for _, times in sides]


def slowdown(few: Times, many: Times) -> dict[str, float]:
    """How many times slower with many tenants than with few."""

    def ratio(measured: Callable[[Times], float]) -> float:
        return round(measured(many) / measured(few), 3)

    return {
        "claim_of_8_p50": ratio(lambda times: statistics.median(times.claim_seconds)),
        "claim_and_ack": ratio(lambda times: 1 / statistics.median(times.at_once_rates)),
        "enqueue_of_1_p50": ratio(lambda times: statistics.median(times.offer_seconds)),
    }


@contextmanager
def own_server() -> Iterator[str]:
    """A server that keeps nothing; its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server on PATH: install it, or give --url")
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        socket = Path(folder) / "s"
        command = [binary, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            process.kill()
            process.wait()


def describe(url: str) -> dict[str, Any]:
    with redis.Redis.from_url(url, protocol=2) as client:
        info = client.info()
    return {
        "redis_version": info["redis_version"],
        "used_memory_mib": round(info["used_memory"] / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", type=Path, help="default: benchmarks/results/broker_redis.json")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks queued before the first claim")
    parser.add_argument("--short", action="store_true", help="20,000 tasks, 3 rounds: does it run at all")
    parser.add_argument("--url", help="of an empty server; default: one is started")
    arguments = parser.parse_args()
    queued, rounds, claims = (20_000, 3, 100) if arguments.short else (arguments.tasks, 9, 500)

    def run(url: str) -> None:
        few, many = asyncio.run(measure(url, queued, rounds, claims))
        figures = {
            "queued": queued,
            "runs": [few.figures(), many.figures()],
            "times_slower_with_many_tenants": slowdown(few, many),
            "server": describe(url),
        }
        write_report("broker_redis", figures, path=arguments.path)

    if arguments.url:
        run(arguments.url)
    else:
        with own_server() as url:
            run(url)


if __name__ == "__main__":
    main()
