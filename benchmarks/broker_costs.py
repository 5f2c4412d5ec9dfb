"""What each operation of `RedisBroker` costs the server: processor time, commands, and bytes on the network.

    python benchmarks/broker_costs.py [RESULT.json] [--short]

Redis runs one command at a time, so the processor time that it spends on a call (`INFO cpu`: reading and
answering included) says how many calls a shard takes in a second. The client is not in it, and other work on
the machine is in it only a little. A call with many items is measured with several numbers of them, and a
line is laid through the times: so much a call, so much an item. Tasks carry real messages: batches of 64
chunks of 200 tokens, vectors of 384 numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import redis
from report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.queue.broker import MAX_COST, Lease, Task, TenantShare
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import ChunkingTask, EmbeddingTask, Stage, StorageTask
from support.redis_server import RedisServer, redis_settings

CHUNKS_OF_BATCH = 64
TOKENS_OF_CHUNK = 200
DIMENSION = 384
LEASE_SECONDS = 600.0
# The scripts themselves, and the counts that the benchmark asks for.
_NO_PART_OF_SCRIPTS = {
    "cmdstat_evalsha",
    "cmdstat_eval",
    "cmdstat_info",
    "cmdstat_config",
    "cmdstat_config|resetstat",
}
# The scripts themselves, and the counts that the benchmark asks for.
_NO_PART_OF_SCRIPTS = {
    "cmdstat_evalsha",
    "cmdstat_eval",
    "cmdstat_info",
    "cmdstat_config",
    "cmdstat_config|resetstat",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one call with this many items, the mean over many calls."""

    items: int
    server_us: float
    commands: float
    """Commands of Redis that the script ran."""
    bytes_in: float
    bytes_out: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The server time of a call: `call_us`, and `item_us` for each of its items."""

    call_us: float
    item_us: float

    def seconds(self, items: int) -> float:
        return (self.call_us + self.item_us * items) / 1e6


def line_through(measured: Sequence[Measured]) -> Cost:
    """The line of least squares; a call costs at least nothing."""
    if len(measured) == 1:
        return Cost(measured[0].server_us, 0.0)
    slope, start = np.polyfit([m.items for m in measured], [m.server_us for m in measured], 1)
    return Cost(round(max(0.0, float(start)), 3), round(max(0.0, float(slope)), 3))


def payload_of(stage: Stage, tenant: str, job_id: str, chunks: int) -> bytes:
    """A message as the workers make it, its arrays filled with zeros."""
    ids = bytes(16 * chunks)
    if stage is Stage.CHUNKING:
        return ChunkingTask(tenant=tenant, job_id=job_id).encode()
    if stage is Stage.EMBEDDING:
        return EmbeddingTask(
            tenant=tenant,
            job_id=job_id,
            ordinal=0,
            model="minilm",
            space="0" * 32,
            chunk_ids=ids,
            lengths=np.full(chunks, TOKENS_OF_CHUNK, "<u4").tobytes(),
            token_ids=bytes(4 * TOKENS_OF_CHUNK * chunks),
        ).encode()
    return StorageTask(
        tenant=tenant,
        job_id=job_id,
        ordinal=0,
        space="0" * 32,
        dim=DIMENSION,
        chunk_ids=ids,
        vectors=bytes(4 * DIMENSION * chunks),
    ).encode()


class Server:
    """Counts what a Redis server did since the last `reset`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._cpu_before = 0.0

    def reset(self) -> None:
        self._client.config_resetstat()
        self._cpu_before = self._cpu_seconds()

    def measured(self, calls: int, items: int) -> Measured:
        """Of the calls since the last reset, whose scripts alone ran on the server."""
        cpu_seconds = self._cpu_seconds() - self._cpu_before
        traffic = self._info("stats")
        commands = self._info("commandstats")
        inner = sum(stats["calls"] for name, stats in commands.items() if name not in _NO_PART_OF_SCRIPTS)
        return Measured(
            items,
            round(1e6 * cpu_seconds / calls, 2),
            round(inner / calls, 2),
            round(traffic["total_net_input_bytes"] / calls, 1),
            round(traffic["total_net_output_bytes"] / calls, 1),
        )

    def _cpu_seconds(self) -> float:
        cpu = self._info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    def _info(self, section: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._client.info(section)
        return found


class Bench:
    """A stage with this many tenants, each with tasks ready, and the calls that are measured on it."""

    def __init__(self, broker: RedisBroker, server: Server, tenants: int, calls: int) -> None:
        self._broker = broker
        self._server = server
        self._names = [f"tenant-{number:05}" for number in range(tenants)]
        self._numbers = count()
        self.calls = calls

    def tasks(self, stage: Stage, number: int, *, chunks: int) -> list[Task]:
        payload = payload_of(stage, "tenant-00000", "job_" + "0" * 32, chunks)
        return [
            self._task(next(self._numbers), payload, max(1, chunks) * TOKENS_OF_CHUNK) for _ in range(number)
        ]

    def _task(self, number: int, payload: bytes, cost: int) -> Task:
        job_id = f"job_{number:032}"
        return Task(f"{job_id}:1:0", self._names[number % len(self._names)], job_id, cost, payload)

    async def measure(self, items: int, call: Callable[[], Awaitable[object]]) -> Measured:
        """Call again and again; all that the server did in this time belongs to these calls."""
        await call()  # the server knows the script from now on
        self._server.reset()
        for _ in range(self.calls):
            await call()
        return self._server.measured(self.calls, items)

    async def enqueue(self, stage: Stage, items: int, *, chunks: int) -> Measured:
        batches = iter([self.tasks(stage, items, chunks=chunks) for _ in range(self.calls + 1)])
        return await self.measure(items, lambda: self._broker.enqueue(stage, next(batches)))

    async def claim_and_ack(
        self, stage: Stage, items: int, *, passing_over: Sequence[str] = ()
    ) -> tuple[Measured, Measured]:
        """Claims of this many tasks, and afterwards acks of the same claims."""
        claims: list[list[Lease]] = []

        async def claim() -> None:
            claims.append(
                await self._broker.claim(
                    stage,
                    worker="bench-worker-0001",
                    max_tasks=items,
                    max_cost=MAX_COST,
                    lease_seconds=LEASE_SECONDS,
                    passing_over=passing_over,
                )
            )

        claimed = await self.measure(items, claim)
        assert all(len(leases) == items for leases in claims), "the queue ran dry"
        to_ack: Iterator[list[Lease]] = iter(claims)
        acked = await self.measure(items, lambda: self._broker.ack(next(to_ack)))
        return claimed, acked

    async def crowded(self, stage: Stage, items: int) -> Measured:
        return await self.measure(
            items,
            lambda: self._broker.crowded(stage, self._names[:items], max_tasks=512, max_cost=524_288),
        )

    async def depth(self, stage: Stage) -> Measured:
        return await self.measure(1, lambda: self._broker.depth(stage))

    async def fill(self, stage: Stage, number: int, *, chunks: int) -> None:
        for _ in range(0, number, 1_000):
            await self._broker.enqueue(stage, self.tasks(stage, 1_000, chunks=chunks))

    async def set_shares(self) -> None:
        weights = (1.0, 2.0, 4.0, 8.0)
        await self._broker.set_shares(
            {name: TenantShare(weights[number % 4]) for number, name in enumerate(self._names)}
        )


async def measure(tenants: int, calls: int) -> dict[str, list[Measured]]:
    """Every operation that workers make for their work, by its name."""
    with RedisServer() as server, server.client() as client:
        broker = await RedisBroker.open(redis_settings(server.url))
        try:
            bench = Bench(broker, Server(client), tenants, calls)
            return await _operations(bench, tenants, calls)
        finally:
            await broker.close()


async def _operations(bench: Bench, tenants: int, calls: int) -> dict[str, list[Measured]]:
    await bench.set_shares()
    # A task for each tenant, so that all are in line; their payloads are small, as memory is not measured.
    ready = max(tenants, 80 * (calls + 1))
    await bench.fill(Stage.EMBEDDING, ready, chunks=0)
    found: dict[str, list[Measured]] = {
        "enqueue": [await bench.enqueue(Stage.EMBEDDING, n, chunks=0) for n in (1, 8, 64)],
        "crowded": [await bench.crowded(Stage.EMBEDDING, n) for n in (1, min(tenants, 1_000))],
        "depth": [await bench.depth(Stage.EMBEDDING)],
        "claim": [],
        "ack": [],
    }
    for items in (1, 8, 64):
        claimed, acked = await bench.claim_and_ack(Stage.EMBEDDING, items)
        found["claim"].append(claimed)
        found["ack"].append(acked)
    found |= await _passing_over(bench, tenants, ready)
    found |= await _with_payloads(bench)
    return found


async def _passing_over(bench: Bench, tenants: int, ready: int) -> dict[str, list[Measured]]:
    """Claims of 8 tasks that pass over all tenants but a few; the items are the tenants passed over."""
    found = []
    for share in (0.0, 0.1, 0.9):
        names = [f"tenant-{number:05}" for number in range(int(share * tenants))]
        # The tenants that are left must have enough for all claims.
        await bench.fill(Stage.EMBEDDING, max(ready, 10 * 9 * bench.calls), chunks=0)
        claimed, _ = await bench.claim_and_ack(Stage.EMBEDDING, 8, passing_over=names)
        found.append(Measured(**asdict(claimed) | {"items": len(names)}))
    return {"claim of 8 tasks, by tenants passed over": found}


async def _with_payloads(bench: Bench) -> dict[str, list[Measured]]:
    """What a batch of 64 chunks costs on its way through a stage: offered, claimed and acked alone."""
    found: dict[str, list[Measured]] = {}
    for stage in (Stage.CHUNKING, Stage.STORAGE):
        offered = await bench.enqueue(stage, 1, chunks=CHUNKS_OF_BATCH)
        claimed, acked = await bench.claim_and_ack(stage, 1)
        found[f"{stage.value}, a batch: enqueue, claim, ack"] = [offered, claimed, acked]
    return found


def costs_of(measured: Mapping[str, Sequence[Measured]]) -> dict[str, Cost]:
    """The line of each operation that has one."""
    lines = ("enqueue", "claim", "ack", "crowded", "depth", "claim of 8 tasks, by tenants passed over")
    return {name: line_through(measured[name]) for name in lines}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", type=Path, help="default: benchmarks/results/broker_costs.json")
    parser.add_argument("--short", action="store_true", help="few calls and tenants: does it run at all")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for tenants in (10, 1_000) if arguments.short else (10, 1_000, 10_000):
        found = asyncio.run(measure(tenants, calls=10 if arguments.short else 100))
        figures[f"{tenants} tenants"] = {
            "calls": {name: [asdict(one) for one in several] for name, several in found.items()},
            "server_us": {name: asdict(cost) for name, cost in costs_of(found).items()},
        }
    write_report("broker_costs", figures, path=arguments.path)


if __name__ == "__main__":
    main()
