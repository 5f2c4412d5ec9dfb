"""What shards of a stage take from the busiest node of a Redis Cluster.

    python benchmarks/broker_shards.py [RESULT.json] [--tasks N] [--short]

A cluster of three nodes on this machine. Tasks of one stage are offered, claimed 8 at a time and acked at
once, by one client, for each number of shards; the numbers take turns. What counts is not the rate, which the
client and two cores bound, but the time that each node spends in its scripts (`INFO commandstats`): one node
does one thing at a time, so the node with the most of it bounds the stage. `bound_per_second` is how many
tasks it can do in a second.

Then 500 tenants have work, and it is asked of which the share is full, as a chunking worker does; and a claim
passes over all of them and finds nothing. Both are done by every shard, so they do not become less.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from report import write_report

from embedfleet.queue.broker import MAX_COST, Task
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.redis_server import RedisServer, redis_settings
from support.redis_topologies import RedisClusterServers

STAGE = Stage.EMBEDDING
SHARDS = (1, 3, 6, 12)
TENANTS = 100
TENANTS_WITH_WORK = 500
LOOKS = 20
CLAIM_TASKS = 8


async def take_round(servers: RedisClusterServers, shards: int, tasks: int, number: int) -> dict[str, float]:
    prefix = f"bench-{shards}-{number}"
    broker = await RedisBroker.open(redis_settings(servers.url, key_prefix=prefix, shards=shards))
    await broker.keep_shards()
    await broker.keep_shards()
    for node in servers.nodes:
        with node.client() as client:
            client.config_resetstat()
    began = time.perf_counter()
    for first in range(0, tasks, 100):
        offered = [
            Task(f"job{i // 100}:1:{i}", f"tenant{i % TENANTS}", f"job{i // 100}", 2_000, b"x" * 200)
            for i in range(first, first + 100)
        ]
        await broker.enqueue(STAGE, offered)
    done = 0
    while leases := await broker.claim(
        STAGE, worker="bench", max_tasks=CLAIM_TASKS, max_cost=MAX_COST, lease_seconds=60
    ):
        await broker.ack(leases)
        done += len(leases)
    seconds = time.perf_counter() - began
    assert done == tasks, (done, tasks)
    of_node = [script_microseconds(node) / tasks for node in servers.nodes]
    looks = await microseconds_of_looks(servers, broker)
    await broker.close()
    return {
        "tasks_per_second_of_one_client": tasks / seconds,
        "server_microseconds_per_task": sum(of_node),
        "busiest_node_share": max(of_node) / sum(of_node),
        "bound_per_second": 1e6 / max(of_node),
        **looks,
    }


async def microseconds_of_looks(servers: RedisClusterServers, broker: RedisBroker) -> dict[str, float]:
    """What a look at the shares takes, and a claim that passes over all: of all nodes, and the busiest."""
    names = [f"tenant{number}" for number in range(TENANTS_WITH_WORK)]
    for number in range(12):
        await broker.enqueue(STAGE, [Task(f"{name}:{number}", name, "job", 10, b"x") for name in names])

    async def look() -> None:
        await broker.crowded(STAGE, names, max_tasks=512, max_cost=524_288)

    async def claim() -> None:
        assert not await broker.claim(
            STAGE, worker="bench", max_tasks=8, max_cost=MAX_COST, lease_seconds=60, passing_over=names
        )

    found = {}
    for what, act in (("crowded", look), ("empty_claim", claim)):
        before = [script_microseconds(node) for node in servers.nodes]
        for _ in range(LOOKS):
            await act()
        after = [script_microseconds(node) for node in servers.nodes]
        of_node = [(end - begin) / LOOKS for begin, end in zip(before, after, strict=True)]
        found[f"{what}_microseconds"] = sum(of_node)
        found[f"{what}_microseconds_of_busiest_node"] = max(of_node)
    return found


def script_microseconds(node: RedisServer) -> float:
    with node.client() as client:
        stats: dict[str, Any] = client.info("commandstats")
    return float(sum(stats[name]["usec"] for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", type=Path, help="default: benchmarks/results/broker_shards.json")
    parser.add_argument("--tasks", type=int, default=10_000, help="of each round")
    parser.add_argument("--short", action="store_true", help="500 tasks, 1 round: does it run at all")
    arguments = parser.parse_args()
    tasks, rounds = (500, 1) if arguments.short else (arguments.tasks, 5)
    measured: defaultdict[int, list[dict[str, float]]] = defaultdict(list)
    with RedisClusterServers() as servers:
        for number in range(rounds):
            for shards in SHARDS:
                measured[shards].append(asyncio.run(take_round(servers, shards, tasks, number)))
                servers.flush()
    figures = {
        "tasks": tasks,
        "shards": {
            str(shards): {
                name: {
                    "median": round(statistics.median(one[name] for one in rounds_of), 3),
                    "lowest": round(min(one[name] for one in rounds_of), 3),
                    "highest": round(max(one[name] for one in rounds_of), 3),
                }
                for name in rounds_of[0]
            }
            for shards, rounds_of in measured.items()
        },
    }
    write_report("broker_shards", figures, path=arguments.path)


if __name__ == "__main__":
    main()
