"""What the scaler tells of a backlog, for those that scale from outside, and when it grows a pool itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from embedfleet.host.pool import WorkerPool
from embedfleet.host.registration import Peers
from embedfleet.host.scaler import Scaler
from embedfleet.launchers.inline import InlineLauncher
from embedfleet.launchers.restarts import RestartPolicy
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.queue.broker import Depth
from embedfleet.queue_schemas import Stage
from embedfleet.records.fleet import PoolReport, RunningOrchestrator
from embedfleet.settings import AutoScalingSettings, PoolSettings, PoolsSettings

STAGE = Stage.STORAGE


def pool_of(stage: Stage, metrics: Metrics) -> WorkerPool:
    return WorkerPool(
        stage,
        launcher=InlineLauncher({}),
        settings=PoolSettings(),
        restarts=RestartPolicy(base_seconds=1, cap_seconds=1, crash_loop_after=3),
        metrics=metrics,
    )


def scaler_of(
    pool: WorkerPool,
    metrics: Metrics,
    *,
    depths: Mapping[Stage, Depth],
    peers: Peers,
    settings: PoolsSettings | None = None,
    shards: int = 1,
    enabled: bool = False,
) -> Scaler:
    return Scaler(
        pools={pool.state().stage: pool},
        settings=settings or PoolsSettings(),
        auto_scaling=AutoScalingSettings(enabled=enabled),
        depths=depths,
        shards=lambda: shards,
        peers=peers,
        collector=MergedCollector(metrics.registry),
        metrics=metrics,
    )


class Coordinator:
    """An orchestrator without workers of its own, beside processes that are one worker each."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.depths: dict[Stage, Depth] = {}
        self.peers = Peers()
        self._scaler = scaler_of(
            pool_of(STAGE, self.metrics), self.metrics, depths=self.depths, peers=self.peers
        )

    async def told_backlog(self, *, ready_cost: int, workers: int, rate: float | None) -> float | None:
        """The series after a look, in seconds; None if it is not exported."""
        self.depths[STAGE] = Depth(ready=bool(ready_cost), leased=0, delayed=0, dead=0, ready_cost=ready_cost)
        self.peers.running = pods(STAGE, workers, rate=rate)
        await self._scaler.look()
        return self.metrics.registry.get_sample_value("embedding_backlog_seconds", {"stage": STAGE.value})


def pods(stage: Stage, count: int, *, rate: float | None) -> list[RunningOrchestrator]:
    report = PoolReport(workers=1, target=1, most=1, rate=rate)
    return [
        RunningOrchestrator(f"pod-{n}", "pod", n, 0.0, 0.0, {stage.value: report}, has_orders=False)
        for n in range(count)
    ]


async def test_the_backlog_is_shared_out_among_all_workers_of_the_fleet() -> None:
    assert await Coordinator().told_backlog(ready_cost=1_000, workers=2, rate=100) == 5


async def test_work_that_comes_after_the_last_worker_has_ended_has_a_backlog_by_the_last_known_rate() -> None:
    """Else what scales from outside reads the 0 of before, and starts none for ever."""
    coordinator = Coordinator()
    assert await coordinator.told_backlog(ready_cost=0, workers=1, rate=100) == 0
    assert await coordinator.told_backlog(ready_cost=0, workers=0, rate=None) == 0
    assert await coordinator.told_backlog(ready_cost=500, workers=0, rate=None) == 5


async def test_a_backlog_of_unknown_length_is_no_series_rather_than_an_old_value() -> None:
    coordinator = Coordinator()
    assert await coordinator.told_backlog(ready_cost=0, workers=0, rate=None) == 0
    assert await coordinator.told_backlog(ready_cost=500, workers=0, rate=None) is None
    assert await coordinator.told_backlog(ready_cost=500, workers=0, rate=None) is None
    assert await coordinator.told_backlog(ready_cost=0, workers=0, rate=None) == 0


@pytest.mark.parametrize(
    ("stage", "next_stage", "shards", "waiting", "grows"),
    [
        (Stage.CHUNKING, Stage.EMBEDDING, 1, 39, True),
        (Stage.CHUNKING, Stage.EMBEDDING, 1, 40, False),
        (Stage.CHUNKING, Stage.EMBEDDING, 4, 159, True),
        (Stage.CHUNKING, Stage.EMBEDDING, 4, 160, False),
        (Stage.EMBEDDING, Stage.STORAGE, 4, 39, True),
        (Stage.EMBEDDING, Stage.STORAGE, 4, 40, False),
    ],
)
@pytest.mark.parametrize("counted_in", ["tasks", "tokens"])
async def test_a_pool_grows_until_the_next_queue_is_full_and_each_shard_of_embedding_has_the_whole_room(
    stage: Stage, next_stage: Stage, shards: int, waiting: int, grows: bool, counted_in: str
) -> None:
    metrics, peers, pool = Metrics(), Peers(), pool_of(stage, Metrics())
    pool.resize(1)
    peers.running = pods(stage, 1, rate=1)
    room, there = (
        ({"max_queued_tasks": 40}, Depth(ready=waiting))
        if counted_in == "tasks"
        else ({"max_queued_tokens": 40}, Depth(ready=1, ready_cost=waiting))
    )
    depths = {stage: Depth(ready=1_000, ready_cost=1_000_000), next_stage: there}
    settings = PoolsSettings.model_validate(
        {stage.value: {"workers": 1, "max_workers": 4}, next_stage.value: room}
    )
    scaler = scaler_of(
        pool, metrics, depths=depths, peers=peers, settings=settings, shards=shards, enabled=True
    )
    await scaler.look()
    assert (pool.target > 1) is grows
