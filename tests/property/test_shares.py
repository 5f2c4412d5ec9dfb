"""What leaves the pipeline follows the weights, whatever the settings, sizes and bottleneck are.

The whole pipeline runs in virtual time (`support.pipeline_simulation`). All tenants always have documents
waiting. The tokens stored for each of them are counted in a window, and compared with the weights.

**The window** begins when the queues have had time to fill. It is so long that what cannot be divided is
small against it: 100 of the documents (batches, if a later stage is the bottleneck) that are dearest for the
weight of their tenant, and 20 times what all loops hold in their claims. By the bound of fair queuing, the
first alone may then cost a tenant 2 %.

**What is inherent, and so not drawn.** The embedding queue has room for eight claims of all its workers, as
the description of `max_queued_tokens` asks for; in tasks as well, of the tenant with the smallest tasks. In a
smaller queue a tenant's share is less than what the workers take at once, and the rest of each claim goes to
others.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from embedfleet.queue_schemas import Stage
from embedfleet.settings import DEFAULT_BATCH_TOKENS, PoolsSettings
from support.pipeline_simulation import BATCH_CHUNKS, Pipeline, StageOfPipeline, Tenant

MOST_OFF = 0.05
STAGES = (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
MOST_TASKS = 2_000
"""Of one example, so that it takes about a second."""
DEFAULTS = PoolsSettings()
TIERS = (1.0, 2.0, 4.0, 8.0)


@pytest.fixture(autouse=True)
def _without_log() -> None:
    """The log of a simulated fleet is long."""
    logger.disable("embedfleet")


def window_tokens(pipeline: Pipeline) -> float:
    tenants = pipeline.tenants
    weights = sum(tenant.weight for tenant in tenants)
    first = pipeline.stages[Stage.CHUNKING]
    others = [pipeline.stages[stage] for stage in STAGES[1:]]
    # With a fifth more than the slowest, chunking keeps the queue full, so documents are not what is served.
    chunking_is_fast = total_rate(first) > 1.2 * min(map(total_rate, others))
    dearest = max(
        (tenant.batch_tokens if chunking_is_fast else tenant.document_tokens) / tenant.weight
        for tenant in tenants
    )
    return max(100 * weights * dearest, 20 * tokens_in_hand(pipeline))


def total_rate(stage: StageOfPipeline) -> float:
    return stage.workers * stage.tokens_per_second


def tokens_in_hand(pipeline: Pipeline) -> float:
    """The most tokens in the claims of all loops behind chunking."""
    return sum(claimed_at_once(pipeline, stage) for stage in STAGES[1:])


def claimed_at_once(pipeline: Pipeline, stage: Stage) -> float:
    """The most tokens in the claims of all loops of a stage."""
    pool = pipeline.pools.of(stage)
    largest = max(tenant.batch_tokens for tenant in pipeline.tenants)
    of_claim = max(largest, min(pool.batch_tokens or DEFAULT_BATCH_TOKENS, pool.batch_tasks * largest))
    return pipeline.stages[stage].workers * pool.concurrency * of_claim


def room_of_embedding(pipeline: Pipeline) -> float:
    """Tokens that wait for embedding when every tenant has filled its share."""
    pool = pipeline.pools.embedding
    weights = sum(tenant.weight for tenant in pipeline.tenants)
    return sum(
        min(pool.max_queued_tokens, pool.max_queued_tasks * tenant.batch_tokens) * tenant.weight / weights
        for tenant in pipeline.tenants
    )


def largest_error(pipeline: Pipeline) -> tuple[float, str]:
    """How far the share of a tenant is off, relative to its weight; and the tenant."""
    window = window_tokens(pipeline)
    filled = min(room_of_embedding(pipeline), window) + 2 * tokens_in_hand(pipeline)
    got = pipeline.run(after=filled, for_tokens=window).stored_tokens
    tokens, weights = sum(got.values()), sum(tenant.weight for tenant in pipeline.tenants)
    return max(
        (abs(got[tenant.name] / tokens / (tenant.weight / weights) - 1), tenant.name)
        for tenant in pipeline.tenants
    )


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    weights = draw(st.lists(st.sampled_from([*TIERS, *TIERS, 0.5, 3.0, 7.3]), min_size=2, max_size=20))
    # The window is 100 documents of the tenant whose documents are dearest: `most_chunks` keeps it short.
    batches = MOST_TASKS * min(weights) / (100 * sum(weights))
    most_chunks = max(1, int(batches * BATCH_CHUNKS))
    sizes = draw(st.sampled_from([(1, 1), (3, 3), (1, most_chunks), (most_chunks, 8 * most_chunks)]))
    chunk_tokens = draw(st.sampled_from([(20, 20), (250, 250), (100, 250)]))
    tenants = tuple(
        Tenant(f"t{number}", weight, draw(st.integers(*sizes)), draw(st.sampled_from(chunk_tokens)))
        for number, weight in enumerate(weights)
    )
    workers = {stage: draw(st.integers(1, 3)) for stage in STAGES}
    pools = draw(pool_settings(tenants, workers[Stage.EMBEDDING]))
    return Pipeline(tenants, pools, draw(speeds(workers)), draw(st.sampled_from([1, 4, 32, None])))


@st.composite
def speeds(draw: st.DrawFn, workers: dict[Stage, int]) -> dict[Stage, StageOfPipeline]:
    """The slowest stage has this rate, all its workers together; the others are up to ten times as fast."""
    slowest = draw(st.sampled_from([20_000, 100_000, 1_000_000]))
    bottleneck = draw(st.sampled_from(STAGES))
    faster = {stage: draw(st.sampled_from([1.0, 1.3, 3.0, 10.0])) for stage in STAGES} | {bottleneck: 1.0}
    return {
        stage: StageOfPipeline(number, slowest * faster[stage] / number) for stage, number in workers.items()
    }


@st.composite
def pool_settings(draw: st.DrawFn, tenants: tuple[Tenant, ...], embedding_workers: int) -> PoolsSettings:
    largest = max(tenant.batch_tokens for tenant in tenants)
    smallest = min(tenant.batch_tokens for tenant in tenants)

    def claims(*, most_concurrent: int) -> dict[str, Any]:
        return {
            "batch_tasks": draw(st.sampled_from([1, 8, 64, 256])),
            "batch_tokens": draw(st.sampled_from([4_096, 16_384, 65_536])),
            "concurrency": draw(st.integers(1, most_concurrent)),
        }

    embedding = claims(most_concurrent=3)
    of_claim = max(largest, min(embedding["batch_tokens"], embedding["batch_tasks"] * largest))
    room = 8 * embedding_workers * embedding["concurrency"] * of_claim * draw(st.sampled_from([1, 3, 10]))
    embedding |= {"max_queued_tokens": room, "max_queued_tasks": -(-room // smallest)}
    storage = claims(most_concurrent=2) | {
        "max_queued_tasks": draw(st.sampled_from([1, 16, 512])),
        "max_queued_tokens": draw(st.sampled_from([65_536, 524_288])),
    }
    return PoolsSettings(
        chunking=DEFAULTS.chunking.model_copy(update=claims(most_concurrent=8)),
        embedding=DEFAULTS.embedding.model_copy(update=embedding),
        storage=DEFAULTS.storage.model_copy(update=storage),
    )


@pytest.mark.slow  # an example takes some ten seconds; the settings below are tried each time
@given(pipelines())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_shares_of_finished_work_follow_the_weights(pipeline: Pipeline) -> None:
    error, tenant = largest_error(pipeline)
    assert error <= MOST_OFF, f"{tenant} is off by {error:.1%}"


def one_each(bottleneck: Stage, tokens_per_second: float) -> dict[Stage, StageOfPipeline]:
    """One worker a stage; those that are no bottleneck are ten times as fast."""
    return {
        stage: StageOfPipeline(1, tokens_per_second * (1 if stage is bottleneck else 10)) for stage in STAGES
    }


def small_documents(weights: tuple[float, ...]) -> tuple[Tenant, ...]:
    return tuple(Tenant(f"t{number}", weight, 3, 200) for number, weight in enumerate(weights))


@pytest.mark.parametrize("bottleneck", STAGES)
@pytest.mark.parametrize(
    "weights",
    [
        pytest.param((8.0, 1.0), id="2 tenants"),
        pytest.param((1.0, 0.5), id="a free tenant beside the backfills of switches"),
        pytest.param(TIERS * 5, id="20 tenants", marks=pytest.mark.slow),
    ],
)
def test_small_documents_with_the_defaults(weights: tuple[float, ...], bottleneck: Stage) -> None:
    pipeline = Pipeline(small_documents(weights), DEFAULTS, one_each(bottleneck, 1e5), 4)
    error, tenant = largest_error(pipeline)
    assert error <= MOST_OFF, f"{tenant} is off by {error:.1%}"


@pytest.mark.slow
def test_huge_documents_of_many_tenants_leave_loops_for_another() -> None:
    """Ten tenants have more huge documents than a worker works on at a time, and all of these wait."""
    light = tuple(Tenant(f"light{number}", 1.0, 5_000, 250) for number in range(10))
    tenants = (Tenant("heavy", 8.0, 60, 250), *light)
    pipeline = Pipeline(tenants, DEFAULTS, one_each(Stage.EMBEDDING, 1e5), 4)
    error, tenant = largest_error(pipeline)
    assert error <= MOST_OFF, f"{tenant} is off by {error:.1%}"


@pytest.mark.parametrize(("concurrency", "max_in_flight"), [(1, 4), (2, None)])
def test_a_huge_document_leaves_a_loop_for_another_however_few_work(
    concurrency: int, max_in_flight: int | None
) -> None:
    chunking = DEFAULTS.chunking.model_copy(update={"concurrency": concurrency})
    pools = DEFAULTS.model_copy(update={"chunking": chunking})
    tenants = (Tenant("heavy", 8.0, 60, 250), Tenant("light", 1.0, 5_000, 250))
    pipeline = Pipeline(tenants, pools, one_each(Stage.EMBEDDING, 1e5), max_in_flight)
    error, tenant = largest_error(pipeline)
    assert error <= MOST_OFF, f"{tenant} is off by {error:.1%}"


def test_a_worker_claims_no_more_than_it_works_on_at_a_time() -> None:
    """What is claimed is not weighed any more: documents that are offered later would wait behind it."""
    pipeline = Pipeline(small_documents((8.0, 1.0)), DEFAULTS, one_each(Stage.CHUNKING, 1e5), 4)
    outcome = pipeline.run(after=0, for_tokens=300_000)
    chunking = DEFAULTS.chunking
    assert outcome.most_claimed_documents <= chunking.concurrency * chunking.batch_tasks
