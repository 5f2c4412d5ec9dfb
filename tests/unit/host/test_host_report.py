"""What a host tells of its pools: to the others, to its supervisor, and to `embedfleet doctor`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from embedfleet import bootstrap
from embedfleet.cli import doctor_checks
from embedfleet.errors import EmbedfleetError, PlacementUnavailable
from embedfleet.host.host_report import HealthReport, PoolReports
from embedfleet.host.pool import PoolState
from embedfleet.launchers.ray.messages import Node
from embedfleet.metrics.server import Health
from embedfleet.queue_schemas import Stage
from embedfleet.settings import Settings, load_settings

NO_NODE = PlacementUnavailable("pool `embedding`: a worker waits for GPU 1")


def state(*, running: int, waiting: int, trouble: EmbedfleetError | None) -> PoolState:
    return PoolState(
        Stage.EMBEDDING,
        target=running + waiting,
        running=running,
        ready=running,
        draining=0,
        waiting=waiting,
        crash_loop=None,
        trouble=trouble,
        waits_for=NO_NODE,
    )


def pools_of(one: PoolState) -> Any:
    return SimpleNamespace(states=lambda: [one])


def obstacles(one: PoolState) -> list[str]:
    return list(HealthReport(Health(), pools_of(one), [])._obstacles())


def test_a_host_whose_cluster_grows_is_ready_and_counts_the_workers_that_have_a_node() -> None:
    growing = state(running=3, waiting=1, trouble=None)
    assert obstacles(growing) == []
    scaler: Any = SimpleNamespace(rate=lambda _stage: None)
    reports = PoolReports(pools_of(growing), scaler=scaler, search=None, settings=Settings())
    told = reports.now()["embedding"]
    assert (told.workers, told.target, told.waiting) == (3, 4, 1)
    assert (told.trouble, told.waits_for) == (None, str(NO_NODE))


def test_a_host_none_of_whose_workers_has_a_node_is_not_ready_and_says_why() -> None:
    assert obstacles(state(running=0, waiting=2, trouble=NO_NODE)) == [
        f"embedding workers are waiting: {NO_NODE}"
    ]


def test_a_cluster_may_rest_without_a_node_for_a_pool_that_begins_with_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nodes(_settings: Settings) -> list[Node]:
        return [Node("head", {"CPU": 8.0})]

    monkeypatch.setattr(bootstrap, "ray_nodes", nodes)

    def settings(workers: int) -> Settings:
        embedding = {"workers": workers, "min_workers": 0, "resources": {"num_gpus": 1}}
        return load_settings(environ={}, overrides={"worker_pools": {"embedding": embedding}})

    assert "1 nodes, 8 CPUs, 0 GPUs" in doctor_checks._ray(settings(0))
    with pytest.raises(PlacementUnavailable, match="no node has so much GPU"):
        doctor_checks._ray(settings(1))
