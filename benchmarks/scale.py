"""Up to 1,000 workers and 10,000 tenants in virtual time: throughput, fairness, calls and bytes a chunk.

    python benchmarks/scale.py [RESULT.json] [--costs broker_costs.json] [--short]

The broker, the loops and their policies are the real ones (`tests/support/pipeline_simulation.py`); a
worker's work is simulated at a fixed rate. The broker of a run is `MemoryBroker`, whose order of service is
the one of `RedisBroker`, but a call takes the time and the bytes that it was measured to take on a real Redis
(`broker_costs.py`): calls wait for each other, as one Redis serves all stages, and then for the network. So
the figures say how many workers one Redis feeds, and what that does to the shares of tenants.

All tenants always have documents waiting; their weights are 1, 2, 4 and 8 in turn. The window is so long
that a tenant of weight 1 gets one document at least. A tenant's worst wait is the longest time that it went
without a stored batch; beside it is the time in which its share gives it one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker_costs import CHUNKS_OF_BATCH, TOKENS_OF_CHUNK, payload_of
from fairness import jain
from loguru import logger
from report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import Lane, Lease, Task
from embedfleet.queue_schemas import Stage
from embedfleet.settings import EmbeddingPoolSettings, PoolSettings, PoolsSettings
from support.pipeline_simulation import BackloggedBroker, Pipeline, StageOfPipeline, Tenant

WEIGHTS = (1.0, 2.0, 4.0, 8.0)
ROUND_TRIP_SECONDS = 0.0002
"""An assumption: between two hosts of one data centre."""
CHUNKING_TOKENS_PER_SECOND = 1_500_000
"""Of one worker: half of what `chunking.py` measures, as a worker also writes rows."""
STORAGE_TOKENS_PER_SECOND = 400_000
"""Of one worker: 2,000 rows a second, a little less than a bare Chroma takes (`pipeline.py`)."""


@dataclass(frozen=True, slots=True)
class CallCost:
    """What a call costs beside its payload, and each of its items: microseconds of the server, and bytes."""

    call_us: float
    item_us: float
    call_bytes: float
    item_bytes: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet and its tenants. `embedding_tokens_per_second` is of one worker."""

    name: str
    embedding_workers: int
    embedding_tokens_per_second: float
    tenants: int
    document_chunks: int
    documents_of_lightest: int = 1
    """How many documents a tenant of weight 1 gets in the window."""

    @property
    def total_rate(self) -> float:
        """Tokens a second of all embedding workers."""
        return self.embedding_workers * self.embedding_tokens_per_second

    def workers(self, stage: Stage) -> int:
        """More than the embedding workers need, so that these are the slowest.

        A chunking worker cuts for two fifths of its time, as a claim of the default size is one document of
        64 chunks: it writes, calls and waits in the rest.
        """
        match stage:
            case Stage.EMBEDDING:
                return self.embedding_workers
            case Stage.CHUNKING:
                return max(1, -(-int(4 * self.total_rate) // CHUNKING_TOKENS_PER_SECOND))
        return max(1, -(-int(1.5 * self.total_rate) // STORAGE_TOKENS_PER_SECOND))

    def pipeline(self) -> Pipeline:
        tenants = tuple(
            Tenant(f"t{number:05}", WEIGHTS[number % len(WEIGHTS)], self.document_chunks, TOKENS_OF_CHUNK)
            for number in range(self.tenants)
        )
        rates: Mapping[Stage, float] = {
            Stage.CHUNKING: CHUNKING_TOKENS_PER_SECOND,
            Stage.EMBEDDING: self.embedding_tokens_per_second,
            Stage.STORAGE: STORAGE_TOKENS_PER_SECOND,
        }
        stages = {stage: StageOfPipeline(self.workers(stage), rate) for stage, rate in rates.items()}
        return Pipeline(tenants, self._pools(), stages, max_in_flight=None)

    def _pools(self) -> PoolsSettings:
        """The defaults, with room for eight claims of all workers: `max_queued_tokens` asks for that."""
        embedding, storage = EmbeddingPoolSettings(), PoolSettings()
        room = 8 * self.embedding_workers
        return PoolsSettings(
            chunking=PoolSettings(),
            embedding=embedding.model_copy(
                update={
                    "max_queued_tasks": max(embedding.max_queued_tasks, room * embedding.batch_tasks),
                    "max_queued_tokens": max(embedding.max_queued_tokens, room * 16_384),
                }
            ),
            storage=storage.model_copy(
                update={
                    "max_queued_tasks": max(storage.max_queued_tasks, room * storage.batch_tasks),
                    "max_queued_tokens": max(storage.max_queued_tokens, room * 16_384),
                }
            ),
        )


class CostlyBroker(BackloggedBroker):
    """Counts calls and bytes, and takes the time that one Redis takes. Set `counting` for the window."""

    def __init__(
        self, clock: ManualClock, tenants: Sequence[Tenant], costs: Mapping[str, CallCost] | None
    ) -> None:
        """`costs` by operation; None: calls take no time, and only calls are counted."""
        super().__init__(clock, tenants)
        self._virtual = clock
        self._costs = costs
        self._free_at = 0.0
        self._payloads = {
            (stage, chunks): len(payload_of(stage, tenants[0].name, "job_" + "0" * 32, chunks))
            for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
            for chunks in {0, *(min(CHUNKS_OF_BATCH, tenant.chunks) for tenant in tenants)}
        }
        self.tally = Tally()

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        await self._call("enqueue", len(tasks), self._bytes_of(stage, tasks))
        return await super().enqueue(stage, tasks)

    async def claim(self, stage: Stage, **how: Any) -> list[Lease]:
        passing_over: Collection[str] = how.get("passing_over", ())
        # Its own `enqueue` of new documents is counted and paid for as a call of the leader.
        leases = await super().claim(stage, **how)
        self.tally.passed_over += len(passing_over)
        self.tally.claims += 1
        await self._call("claim", len(leases), self._bytes_of(stage, [lease.task for lease in leases]))
        await self._call("pass over", len(passing_over), calls=0)
        return leases

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        await self._call("ack", len(leases))
        if leases and leases[0].stage is Stage.STORAGE:
            self.tally.stored(leases, self._virtual.now())
        return await super().ack(leases)

    async def crowded(self, stage: Stage, tenants: Collection[str], **room: Any) -> set[str]:
        for first in range(0, len(tenants), 1_000):
            await self._call("crowded", min(1_000, len(tenants) - first))
        return await super().crowded(stage, tenants, **room)

    async def depth(self, stage: Stage) -> Any:
        await self._call("depth", 1)
        return await super().depth(stage)

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float, lane: Lane | None = None) -> bool:
        await self._call("depth", 1)  # a look costs about as much
        return await super().wait_for_ready(stage, timeout_seconds=timeout_seconds, lane=lane)

    def _bytes_of(self, stage: Stage, tasks: Sequence[Task]) -> int:
        if stage is Stage.CHUNKING:
            return len(tasks) * self._payloads[stage, 0]
        return sum(self._payloads[stage, task.cost // TOKENS_OF_CHUNK] for task in tasks)

    async def _call(self, operation: str, items: int, payload: int = 0, *, calls: int = 1) -> None:
        """Wait for the server, be served, and wait for the answer."""
        self.tally.calls[operation] += calls
        if self._costs is None or not (items or calls):
            return
        cost = self._costs[operation]
        seconds = (calls * cost.call_us + items * cost.item_us) / 1e6
        self.tally.bytes += round(calls * cost.call_bytes + items * cost.item_bytes + payload)
        self.tally.server_seconds[operation] += seconds
        now = self._virtual.now()
        self._free_at = max(now, self._free_at) + seconds
        await asyncio.sleep(self._free_at - now + calls * ROUND_TRIP_SECONDS)


class Tally:
    """What was counted since the start or the last `reset`."""

    def __init__(self) -> None:
        self.begun_at = 0.0
        self.last_stored: dict[str, float] = {}
        self.reset(0.0)

    def reset(self, now: float) -> None:
        self.begun_at = now
        self.calls: Counter[str] = Counter()
        self.server_seconds: defaultdict[str, float] = defaultdict(float)
        self.bytes = 0
        self.claims = 0
        self.passed_over = 0
        self.stored_tokens: Counter[str] = Counter()
        self.longest_gap: dict[str, float] = {}
        self.last_stored.clear()

    def stored(self, leases: Sequence[Lease], now: float) -> None:
        for lease in leases:
            tenant = lease.task.tenant
            self.stored_tokens[tenant] += lease.task.cost
            gap = now - self.last_stored.get(tenant, self.begun_at)
            self.longest_gap[tenant] = max(gap, self.longest_gap.get(tenant, 0.0))
            self.last_stored[tenant] = now


def run_scenario(scenario: Scenario, costs: Mapping[str, CallCost] | None) -> dict[str, Any]:
    """Run it, and return its figures."""
    pipeline = scenario.pipeline()
    document_tokens = scenario.document_chunks * TOKENS_OF_CHUNK
    weights = sum(tenant.weight for tenant in pipeline.tenants)
    window = scenario.documents_of_lightest * weights * document_tokens
    # Until the queues are filled: what the loops hold and what waits in the room of the embedding queue.
    warm_up = max(0.25 * window, 4 * scenario.embedding_workers * 16_384)
    brokers: list[_WindowBroker] = []

    def make_broker(clock: ManualClock, tenants: Sequence[Tenant]) -> BackloggedBroker:
        brokers.append(_WindowBroker(clock, tenants, costs, warm_up))
        return brokers[0]

    began = time.perf_counter()
    pipeline.run(after=warm_up, for_tokens=window, make_broker=make_broker)
    wall = time.perf_counter() - began
    figures = _figures(scenario, pipeline, brokers[0].tally, brokers[0].now - brokers[0].tally.begun_at)
    return figures | {"wall_seconds": round(wall, 1)}


class _WindowBroker(CostlyBroker):
    """Resets its tally when `warm_up` tokens are stored."""

    def __init__(
        self,
        clock: ManualClock,
        tenants: Sequence[Tenant],
        costs: Mapping[str, CallCost] | None,
        warm_up: float,
    ) -> None:
        super().__init__(clock, tenants, costs)
        self._left = warm_up

    @property
    def now(self) -> float:
        return self._virtual.now()

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        lost = await super().ack(leases)
        if self._left > 0 and leases and leases[0].stage is Stage.STORAGE:
            self._left -= sum(lease.task.cost for lease in leases)
            if self._left <= 0:
                self.tally.reset(self.now)
        return lost


def _figures(scenario: Scenario, pipeline: Pipeline, tally: Tally, seconds: float) -> dict[str, Any]:
    tokens = sum(tally.stored_tokens.values())
    chunks = tokens / TOKENS_OF_CHUNK
    rate = tokens / seconds
    weights = sum(tenant.weight for tenant in pipeline.tenants)
    batch_tokens = min(CHUNKS_OF_BATCH, scenario.document_chunks) * TOKENS_OF_CHUNK
    per_weight = [tally.stored_tokens[tenant.name] / tenant.weight for tenant in pipeline.tenants]
    fair = tokens / weights
    waits = [
        tally.longest_gap.get(tenant.name, seconds) / (batch_tokens * weights / (tenant.weight * rate))
        for tenant in pipeline.tenants
    ]
    lightest = [
        tally.longest_gap.get(tenant.name, seconds)
        for tenant in pipeline.tenants
        if tenant.weight == WEIGHTS[0]
    ]
    busy = sum(tally.server_seconds.values())
    return {
        "scenario": scenario.name,
        "workers": {
            stage.value: scenario.workers(stage) for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
        },
        "tenants": scenario.tenants,
        "chunks_of_a_document": scenario.document_chunks,
        "virtual_seconds": round(seconds, 1),
        "chunks_per_second": round(chunks / seconds),
        "share_of_linear": round(rate / scenario.total_rate, 4),
        "redis_busy_share": round(busy / seconds, 4),
        "redis_us_a_chunk": round(1e6 * busy / chunks, 2),
        "redis_us_a_chunk_by_operation": {
            name: round(1e6 * spent / chunks, 2)
            for name, spent in sorted(tally.server_seconds.items(), key=lambda item: -item[1])
        },
        "calls_a_chunk": round(sum(tally.calls.values()) / chunks, 4),
        "calls_by_operation": dict(tally.calls.most_common()),
        "bytes_a_chunk": round(tally.bytes / chunks),
        "tenants_passed_over_a_claim": round(tally.passed_over / max(1, tally.claims), 1),
        "weighted_jain": round(jain(per_weight), 6),
        "largest_error_in_batches_of_its_weight": round(
            max(abs(got - fair) for got in per_weight) / batch_tokens, 3
        ),
        "worst_wait_of_a_lightest_seconds": round(max(lightest), 1),
        "its_share_gives_one_each_seconds": round(batch_tokens * weights / rate, 1),
        "worst_wait_by_its_share": round(max(waits), 2),
    }


def costs_from(path: Path, tenants: int) -> dict[str, CallCost]:
    """The costs that `broker_costs.py` measured with this many tenants, or the next more."""
    figures = json.loads(path.read_text())["figures"]
    sizes = sorted(int(name.split()[0]) for name in figures)
    size = next((size for size in sizes if size >= tenants), sizes[-1])
    measured = figures[f"{size} tenants"]

    def cost(name: str, of: str) -> CallCost:
        line, calls = measured["server_us"][of], measured["calls"][of]
        first, last = calls[0], calls[-1]
        sent = [one["bytes_in"] + one["bytes_out"] for one in (first, last)]
        items = last["items"] - first["items"]
        per_item = (sent[1] - sent[0]) / items if items else 0.0
        return CallCost(line["call_us"], line["item_us"], sent[0] - first["items"] * per_item, per_item)

    found = {name: cost(name, name) for name in ("enqueue", "claim", "ack", "crowded", "depth")}
    passing = cost("pass over", "claim of 8 tasks, by tenants passed over")
    return found | {"pass over": CallCost(0.0, passing.item_us, 0.0, passing.item_bytes)}


CPU_RATE = 10_000.0
"""Tokens a second of a worker with a small model on two cores: 50 chunks of 200 (`embedding.py`)."""
GPU_RATE = 200_000.0
"""Of a worker with a large model on an H200: some 950 chunks a second (`gpu.py`)."""


def scenarios(*, short: bool) -> list[Scenario]:
    if short:
        return [
            Scenario("CPU", 10, CPU_RATE, 20, 64),
            Scenario("CPU, small documents", 10, CPU_RATE, 20, 3),
        ]
    return [
        Scenario("CPU", 10, CPU_RATE, 100, 64, documents_of_lightest=10),
        Scenario("CPU", 100, CPU_RATE, 1_000, 64),
        Scenario("CPU", 950, CPU_RATE, 10_000, 64),
        Scenario("CPU, small documents", 950, CPU_RATE, 1_000, 3, documents_of_lightest=4),
        Scenario("GPU", 10, GPU_RATE, 1_000, 64),
        Scenario("GPU", 100, GPU_RATE, 1_000, 64),
        Scenario("GPU", 500, GPU_RATE, 1_000, 64, documents_of_lightest=4),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", type=Path, help="default: benchmarks/results/scale.json")
    parser.add_argument("--costs", type=Path, default=Path(__file__).parent / "results" / "broker_costs.json")
    parser.add_argument("--short", action="store_true", help="a few tenants and workers: does it run at all")
    parser.add_argument("--only", type=int, help="the number of one scenario, from 0")
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    chosen = scenarios(short=arguments.short)
    if arguments.only is not None:
        chosen = [chosen[arguments.only]]
    runs = []
    for scenario in chosen:
        runs.append(run_scenario(scenario, costs_from(arguments.costs, scenario.tenants)))
        print(json.dumps(runs[-1]), file=sys.stderr)
    write_report("scale", {"round_trip_seconds": ROUND_TRIP_SECONDS, "runs": runs}, path=arguments.path)


if __name__ == "__main__":
    main()
