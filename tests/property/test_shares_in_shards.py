"""Shares follow the weights although each shard of a stage is fair in itself only.

The tasks of every tenant are spread over all shards by the hash of their ids, and claims take the shards in
turn. So no shard has to know of the others. These tests run the real `StageShards` in virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from loguru import logger

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import Task, TenantShare
from embedfleet.queue_schemas import Stage
from embedfleet.settings import PoolsSettings
from support.pipeline_simulation import Pipeline, StageOfPipeline, Tenant
from support.sharded_memory import ShardedBroker

SHARDS = [1, 4, 16]
STAGES = (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
WEIGHTS = {"small": 1.0, "medium": 2.0, "large": 4.0}


@pytest.fixture(autouse=True)
def _without_log() -> None:
    """The log of a simulated fleet is long."""
    logger.disable("embedfleet")


@pytest.mark.parametrize("shards", SHARDS)
def test_three_backlogged_tenants_with_tasks_of_all_sizes_and_a_changing_number_of_workers(
    shards: int,
) -> None:
    served = asyncio.run(_served(shards))
    tokens = sum(served.values())
    for tenant, weight in WEIGHTS.items():
        assert served[tenant] / tokens == pytest.approx(weight / sum(WEIGHTS.values()), rel=0.02)


async def _served(shards: int) -> Counter[str]:
    """The tokens of each tenant in some thousand claims. All have work to the end.

    What cannot be divided grows with the shards, so there are more claims for more of them.
    """
    claims = 1_000 + 150 * shards
    rng = random.Random(shards)
    broker = ShardedBroker(ManualClock(0.0), (), shards)
    await broker.set_shares({tenant: TenantShare(weight) for tenant, weight in WEIGHTS.items()})
    for tenant in WEIGHTS:
        tasks = [
            Task(f"{tenant}:{number}", tenant, "job", rng.choice([20, 250, 2_000, 16_000]), b"")
            for number in range(8 * claims)
        ]
        await broker.enqueue(Stage.EMBEDDING, tasks)
    served: Counter[str] = Counter()
    for _ in range(claims):
        leases = await broker.claim(
            Stage.EMBEDDING,
            worker="w",
            max_tasks=rng.choice([1, 8, 32]),
            max_cost=rng.choice([4_096, 65_536]),
            lease_seconds=60,
        )
        served.update({lease.task.tenant: 0 for lease in leases})
        for lease in leases:
            served[lease.task.tenant] += lease.task.cost
    return served


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", [Stage.EMBEDDING, Stage.STORAGE])
@pytest.mark.parametrize("shards", SHARDS)
def test_what_leaves_a_whole_pipeline_follows_the_weights(shards: int, bottleneck: Stage) -> None:
    tenants = (Tenant("enterprise", 8.0, 3, 200), Tenant("free", 1.0, 3, 200))
    stages = {stage: StageOfPipeline(1, 1e5 * (1 if stage is bottleneck else 10)) for stage in STAGES}
    pipeline = Pipeline(tenants, PoolsSettings(), stages, 4)
    outcome = pipeline.run(
        after=2e6, for_tokens=2e6, make_broker=lambda clock, all_: ShardedBroker(clock, all_, shards)
    )
    tokens = sum(outcome.stored_tokens.values())
    for tenant in tenants:
        assert outcome.stored_tokens[tenant.name] / tokens == pytest.approx(tenant.weight / 9, rel=0.05)
