"""Figures R7 and R8: what a noisy neighbour costs, and whether shares follow the weights.

    python benchmarks/fairness.py [--broker memory] [--short]

Through the broker's port, in virtual time: workers are simulated, a claim takes its tokens divided by
`TOKENS_PER_SECOND`, and of its tasks the shortest is done first. So the figures say what the order of
service does, not what the machine does, and are the same everywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from brokers import BROKERS, OpenBroker
from report import write_report

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import Broker, Lease, Task, TenantShare
from embedfleet.queue_schemas import Stage

STAGE = Stage.EMBEDDING
TOKENS_PER_SECOND = 6_000
"""Of one worker: MiniLM on a CPU, about 30 chunks of 200 tokens."""
LEASE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Claim:
    """How much a worker takes at once."""

    max_tasks: int
    max_cost: int


ONE_TASK = Claim(1, 16_384)
BATCH = Claim(8, 16_384)
"""The embedding pool's default."""


@dataclass(frozen=True, slots=True)
class Served:
    """A task that is done. `claim_seconds`: the work of the whole claim it was in."""

    task_id: str
    cost: int
    offered_at: float
    claimed_at: float
    done_at: float
    claim_seconds: float


class Simulation:
    """Workers in virtual time on a real broker."""

    def __init__(self, broker: Broker, clock: ManualClock, claim: Claim) -> None:
        self.served: list[Served] = []
        self._broker = broker
        self._clock = clock
        self._start = clock.now()
        self._claim = claim
        self._events: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []
        self._order = count()
        self._offered_at: dict[str, float] = {}
        self._idle = 0
        self._surplus = 0

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._clock.now() - self._start

    def offer_at(self, at: float, tasks: Sequence[Task]) -> None:
        self._at(at, partial(self._offer, tasks))

    def change_workers_at(self, at: float, change: int) -> None:
        """So many more, or fewer: those that go finish what they have claimed first."""
        self._at(at, partial(self._change, change))

    async def run(self, until: float) -> list[Served]:
        """Live until then; returns what was done, in order."""
        while self._events and self._events[0][0] <= until:
            at, _, happen = heapq.heappop(self._events)
            self._clock.advance(at - self.now)
            await happen()
        return self.served

    def _at(self, at: float, happen: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._events, (at, next(self._order), happen))

    async def _offer(self, tasks: Sequence[Task]) -> None:
        self._offered_at.update(dict.fromkeys((task.id for task in tasks), self.now))
        await self._broker.enqueue(STAGE, tasks)
        await self._set_to_work()

    async def _change(self, change: int) -> None:
        self._idle += max(change, 0)
        leaving_now = min(max(-change, 0), self._idle)
        self._idle -= leaving_now
        self._surplus += max(-change, 0) - leaving_now
        await self._set_to_work()

    async def _set_to_work(self) -> None:
        while self._idle:
            leases = await self._broker.claim(
                STAGE,
                worker="bench",
                max_tasks=self._claim.max_tasks,
                max_cost=self._claim.max_cost,
                lease_seconds=LEASE_SECONDS,
            )
            if not leases:
                return
            self._idle -= 1
            self._schedule(leases)

    def _schedule(self, leases: Sequence[Lease]) -> None:
        """As the embedding worker does, a claim's tasks are done one after the other, the shortest first."""
        seconds = sum(lease.task.cost for lease in leases) / TOKENS_PER_SECOND
        end = self.now
        for lease in sorted(leases, key=lambda lease: lease.task.cost):
            end += lease.task.cost / TOKENS_PER_SECOND
            self._at(end, partial(self._finish, lease, self.now, seconds))
        self._at(end, self._free)

    async def _finish(self, lease: Lease, claimed_at: float, claim_seconds: float) -> None:
        await self._broker.ack([lease])
        task = lease.task
        self.served.append(
            Served(
                task_id=task.id,
                cost=task.cost,
                offered_at=self._offered_at.pop(task.id),
                claimed_at=claimed_at,
                done_at=self.now,
                claim_seconds=claim_seconds,
            )
        )

    async def _free(self) -> None:
        if self._surplus:
            self._surplus -= 1
        else:
            self._idle += 1
        await self._set_to_work()


# --- R7: the noisy neighbour ---

HEAP_TASK_CHUNKS = 64
QUIET_CHUNKS_PER_SECOND = 20


def heap_of(chunks: int, rng: random.Random) -> list[Task]:
    """A tenant's large documents: tasks of 64 chunks of 100 to 256 tokens."""
    return [
        Task(
            id=f"noisy{number}",
            tenant="noisy",
            job_id="heap",
            cost=sum(rng.randint(100, 256) for _ in range(HEAP_TASK_CHUNKS)),
            payload=b"",
        )
        for number in range(math.ceil(chunks / HEAP_TASK_CHUNKS))
    ]


def trickle(seconds: float, rng: random.Random) -> list[tuple[float, Task]]:
    """Another tenant's small documents, one chunk each, at random moments."""
    moments: list[tuple[float, Task]] = []
    at = rng.expovariate(QUIET_CHUNKS_PER_SECOND)
    while at < seconds:
        name = f"quiet{len(moments)}"
        moments.append((at, Task(name, "quiet", name, rng.randint(100, 256), b"")))
        at += rng.expovariate(QUIET_CHUNKS_PER_SECOND)
    return moments


async def quiet_latencies(
    open_broker: OpenBroker, claim: Claim, *, heap_chunks: int, seconds: float, fifo: bool
) -> tuple[list[float], float]:
    """Seconds from offer to done of the quiet tenant's tasks, sorted; and the longest claim of the run.

    `fifo`: everything is one tenant's, so that the broker serves in the order of arrival. The run goes on
    until all of the trickle is done.
    """
    rng = random.Random(7)

    def offered(task: Task) -> Task:
        return replace(task, tenant="everybody") if fifo else task

    clock = ManualClock()
    async with open_broker(clock) as broker:
        simulation = Simulation(broker, clock, claim)
        simulation.change_workers_at(0, 2)
        heap = heap_of(heap_chunks, rng)
        for start in range(0, len(heap), 500):
            simulation.offer_at(0, [offered(task) for task in heap[start : start + 500]])
        moments = trickle(seconds, random.Random(8))
        for at, task in moments:
            simulation.offer_at(at, [offered(task)])
        served = await simulation.run(math.inf)
    quiet = [task for task in served if task.task_id.startswith("quiet")]
    assert len(quiet) == len(moments), "a task was lost"
    if heap and not fifo:
        assert served[-1].task_id.startswith("noisy"), "the neighbour must be noisy throughout"
    return (
        sorted(task.done_at - task.offered_at for task in quiet),
        max(task.claim_seconds for task in served),
    )


def p99(values: Sequence[float]) -> float:
    """Of sorted values."""
    return values[math.ceil(0.99 * len(values)) - 1]


async def noisy_neighbour(
    open_broker: OpenBroker, claim: Claim, *, heap_chunks: int, seconds: float
) -> dict[str, Any]:
    """The quiet tenant alone, beside the noisy one, and beside it in a FIFO."""
    measure = partial(quiet_latencies, open_broker, claim, seconds=seconds)
    alone, _ = await measure(heap_chunks=0, fifo=False)
    beside, longest_claim = await measure(heap_chunks=heap_chunks, fifo=False)
    in_fifo, _ = await measure(heap_chunks=heap_chunks, fifo=True)
    bound = 2 * p99(alone) + longest_claim
    return {
        "claims_of_tasks": claim.max_tasks,
        "noisy_chunks": heap_chunks,
        "quiet_tasks": len(alone),
        "p99_alone_seconds": round(p99(alone), 3),
        "p99_beside_noisy_seconds": round(p99(beside), 3),
        "p99_in_fifo_seconds": round(p99(in_fifo), 1),
        "p50_beside_noisy_seconds": round(beside[len(beside) // 2], 3),
        "one_batch_seconds": round(longest_claim, 3),
        "bound_seconds": round(bound, 3),
        "within_bound": p99(beside) <= bound,
        "target": "p99 beside <= 2 x p99 alone + one batch",
    }


# --- R8: weights ---

WEIGHTS: Mapping[str, float] = {"one": 1.0, "two": 2.0, "four": 4.0}
CHUNKS_OF_TASK: Mapping[str, tuple[int, int]] = {"one": (1, 64), "two": (1, 8), "four": (32, 64)}
"""Fewest and most chunks of a tenant's tasks, so that their sizes differ as much as their weights."""


def backlog_of(tenant: str, tokens: int, rng: random.Random) -> list[Task]:
    tasks: list[Task] = []
    left = tokens
    while left > 0:
        chunks = rng.randint(*CHUNKS_OF_TASK[tenant])
        cost = sum(rng.randint(8, 256) for _ in range(chunks))
        tasks.append(Task(f"{tenant}{len(tasks)}", tenant, f"{tenant}-job", cost, b""))
        left -= cost
    return tasks


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


async def weighted_shares(
    open_broker: OpenBroker, claim: Claim, *, seconds: float, seed: int
) -> dict[str, Any]:
    """Tokens served to each while all are backlogged and workers come and go every 20 s."""
    rng = random.Random(seed)
    clock = ManualClock()
    workers = 4
    async with open_broker(clock) as broker:
        simulation = Simulation(broker, clock, claim)
        for tenant, weight in WEIGHTS.items():
            await broker.set_shares({tenant: TenantShare(weight)})
            # Enough for eight workers throughout, all for this tenant's share.
            enough = round(8 * TOKENS_PER_SECOND * seconds * weight / sum(WEIGHTS.values()) * 1.1)
            tasks = backlog_of(tenant, enough, rng)
            for start in range(0, len(tasks), 500):
                simulation.offer_at(0, tasks[start : start + 500])
        simulation.change_workers_at(0, workers)
        for at in range(20, round(seconds), 20):
            wanted = rng.randint(1, 8)
            simulation.change_workers_at(at, wanted - workers)
            workers = wanted
        served = await simulation.run(seconds)
        # A tenant with any ready task fills a room of one task.
        left = await broker.crowded(STAGE, WEIGHTS, max_tasks=1, max_cost=1)
    assert left == set(WEIGHTS), "all must be backlogged throughout"
    tokens = {
        tenant: sum(task.cost for task in served if task.task_id.startswith(tenant)) for tenant in WEIGHTS
    }
    per_weight = sum(tokens.values()) / sum(WEIGHTS.values())
    deviations = [abs(tokens[tenant] / (weight * per_weight) - 1) for tenant, weight in WEIGHTS.items()]
    return {
        "claims_of_tasks": claim.max_tasks,
        "seed": seed,
        "tokens": tokens,
        "largest_deviation_percent": round(100 * max(deviations), 3),
        "weighted_jain": round(jain([tokens[tenant] / weight for tenant, weight in WEIGHTS.items()]), 6),
        "target": "within 2 %, Jain >= 0.99",
    }


async def measure(open_broker: OpenBroker, *, short: bool) -> dict[str, Any]:
    neighbours = [
        await noisy_neighbour(
            open_broker,
            claim,
            heap_chunks=10_000 if short else 100_000,
            seconds=100 if short else 1_000,
        )
        for claim in (ONE_TASK, BATCH)
    ]
    shares = [
        await weighted_shares(open_broker, claim, seconds=200 if short else 2_000, seed=seed)
        for claim in (ONE_TASK, BATCH)
        for seed in range(1 if short else 3)
    ]
    return {"noisy neighbour (R7)": neighbours, "weights 1:2:4 (R8)": shares}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", choices=sorted(BROKERS), default="memory")
    parser.add_argument("--short", action="store_true", help="a tenth of the work: for CI")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(BROKERS[arguments.broker], short=arguments.short))
    write_report(f"fairness_{arguments.broker}", {"broker": arguments.broker} | figures)


if __name__ == "__main__":
    main()
