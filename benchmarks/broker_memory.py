"""How fast `MemoryBroker` claims and acks with a million tasks queued, for few and for many tenants.

    python benchmarks/broker_memory.py [RESULT.json] [--tasks N]

One client, one event loop, the garbage collector as Python ships it. A claim takes up to 8 tasks and
every task is acked, by the port's own calls, as a worker makes them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import time
from pathlib import Path

from report import write_report

from embedfleet.queue.broker import MAX_COST, Broker, Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import Stage

STAGE = Stage.EMBEDDING
TENANTS = (10, 10_000)
CLAIM_TASKS = 8
CLAIMS = 10_000
OFFER_TASKS = 1_000


async def measure(tenants: int, queued: int) -> dict[str, float]:
    """Fill a broker, then claim and ack; times in the unit of the key."""
    broker = MemoryBroker()
    enqueue_seconds = await fill(broker, tenants, queued)
    claim_seconds, total_seconds, served = await claim_and_ack(broker)
    claim_seconds.sort()
    return {
        "tenants": tenants,
        "queued": queued,
        "enqueued_per_second": round(queued / enqueue_seconds),
        "claimed_and_acked_per_second": round(served / total_seconds),
        "claim_of_8_p50_ms": round(1e3 * claim_seconds[len(claim_seconds) // 2], 4),
        "claim_of_8_p99_ms": round(1e3 * claim_seconds[len(claim_seconds) * 99 // 100], 4),
        "claim_of_8_max_ms": round(1e3 * claim_seconds[-1], 4),
    }


async def fill(broker: Broker, tenants: int, queued: int) -> float:
    """Offer tasks of mixed cost and priority, tenants taking turns; returns the seconds of the offers."""
    rng = random.Random(0)
    seconds = 0.0
    for start in range(0, queued, OFFER_TASKS):
        tasks = [
            Task(
                id=f"task{i}",
                tenant=f"tenant{i % tenants}",
                job_id=f"job{i // 100}",
                cost=rng.randint(1, 16_384),
                payload=b"",
                priority=rng.choice((0, 50, 100)),
            )
            for i in range(start, min(start + OFFER_TASKS, queued))
        ]
        began = time.perf_counter()
        await broker.enqueue(STAGE, tasks)
        seconds += time.perf_counter() - began
    return seconds


async def claim_and_ack(broker: Broker) -> tuple[list[float], float, int]:
    """Returns the seconds of each claim, the seconds of all claims and acks, and the tasks served."""
    claim_seconds: list[float] = []
    served = 0
    began = time.perf_counter()
    for _ in range(CLAIMS):
        claim_began = time.perf_counter()
        leases = await broker.claim(
            STAGE, worker="bench", max_tasks=CLAIM_TASKS, max_cost=MAX_COST, lease_seconds=60
        )
        claim_seconds.append(time.perf_counter() - claim_began)
        await broker.ack(leases)
        served += len(leases)
    return claim_seconds, time.perf_counter() - began, served


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", type=Path, help="default: benchmarks/results/broker_memory.json")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks queued before the first claim")
    arguments = parser.parse_args()
    runs = [asyncio.run(measure(tenants, arguments.tasks)) for tenants in TENANTS]
    peak_memory_mib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # KiB on Linux
    write_report("broker_memory", {"runs": runs, "peak_memory_mib": peak_memory_mib}, path=arguments.path)


if __name__ == "__main__":
    main()
