"""A fleet whose workers are actors of a real Ray cluster, over real Redis, PostgreSQL and Chroma."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.chroma_server import ChromaServer
from support.fleet import Fleet, Orchestrator, assert_all_completed, ended, fleet_on, submit, tenant
from support.hangs import eventually
from support.ray_cluster import RayCluster, runs_on
from support.redis_server import RedisServer

# Small requests: many workers fit on the nodes of one machine.
LITTLE = {"resources": {"num_cpus": 0.25}}
OF_EACH_KIND = {
    "resources": {
        "num_cpus": 0.25,
        "num_gpus": 0.5,
        "memory_mb": 50,
        "custom": {"fast": 1},
        "labels": {"zone": "!in(b,c)"},
    }
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    # One node only: each takes some seconds to start. What more nodes are for is in `chaos/test_ray.py`.
    node: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1, "resources": {"fast": 4}, "labels": {"zone": "a"}}
    with RayCluster(**node) as cluster:
        yield cluster


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer) -> Fleet:
    plain = fleet_on(tmp_path, redis_server.url, postgres_url, chroma_server.url)
    pools = {name: {**pool, **LITTLE} for name, pool in plain.config["worker_pools"].items()}
    pools["embedding"] |= OF_EACH_KIND
    return Fleet(tmp_path, {**plain.config, "worker_pools": pools})


def places(one: Orchestrator) -> dict[str, tuple[str, int]]:
    return runs_on(one.log.read_text())


async def test_a_folder_is_ingested_and_found_while_an_actor_is_killed_and_another_finds_no_node(
    fleet: Fleet, cluster: RayCluster, corpus: Path
) -> None:
    me = ("--tenant", tenant(fleet, "me"))
    impossible = {"resources": {"num_gpus": 2, "custom": {"tpu": 1}}}
    config = fleet.write_config(worker_pools={**fleet.config["worker_pools"], "deletion": impossible})
    on_ray = ("--launcher", "ray", "--ray-address", cluster.address)
    with fleet.orchestrator(*on_ray, config=config, ready=False) as one:
        # The other pools work. What the fourth lacks is said where operators look.
        says = "pool `deletion`: a worker asks for CPU 0.25, GPU 2, tpu 1, but no node has so much GPU, tpu"
        eventually(lambda: says in one.log.read_text(), what="the log")
        eventually(lambda: says in one.get("/readyz")[1], what="the readiness")

        ingested = fleet.command("ingest", str(corpus), *me)
        assert ingested.returncode == 0, ingested.stderr
        found = fleet.command("search", "cat", "--json", *me)
        assert len(json.loads(found.stdout)["hits"]) == 2, found.stderr

        killed = places(one)["embedding-0"]
        os.kill(killed[1], signal.SIGKILL)
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "alice", 2, 20)
            assert_all_completed(await ended(guest, job_ids), 20)
            (await fleet.ledger(guest)).assert_exact()
        assert places(one)["embedding-0"] != killed
        assert one.metric("embedding_worker_restarts_total") == 1
        embedded = partial(one.metric, "embedding_chunks_embedded_total")
        eventually(lambda: embedded() >= 40, what="the counts of the actors at the one metrics port")
        assert one.stop() == 0
        assert "drained and stopped" in one.log.read_text()
