"""The number of shards is raised and lowered on a fleet that works, as its operator does it: host by host."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.queue.keys import stage_key
from embedfleet.queue_schemas import JobStatus, Stage
from support.chroma_server import ChromaServer
from support.fleet import QUICK_LEASES, Fleet, ended, more_stored, submit_for
from support.hangs import eventually
from support.redis_server import RedisServer

TENANT = "fleet-shards"
"""Of this file only: tests share a Chroma server, whose collections are named after tenants."""

CHUNKS = 100


@pytest.mark.slow
async def test_the_number_changes_host_by_host_while_documents_are_worked_on(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer
) -> None:
    redis = {"url": redis_server.url, "key_prefix": "shards"}
    fleet = Fleet(
        tmp_path,
        {
            "data_dir": str(tmp_path / "unused"),
            "redis": redis,
            "database": {"url": postgres_url},
            "vector_store": {"url": chroma_server.url},
            "models": {"default": "stub"},
            "chunking": {"batch_chunks": 4},
            "worker_pools": QUICK_LEASES,
            "orchestrator": {"heartbeat_seconds": 0.5, "leader_lease_seconds": 2},
        },
    )
    job_ids: list[str] = []
    async with fleet.guest() as guest:
        for shards in (1, 4, 2):
            config = fleet.write_config(redis={**redis, "shards": shards})
            before = len(job_ids) * CHUNKS
            job_ids += await submit_for(TENANT, guest, f"with{shards}", 8, CHUNKS)
            # The host before has stopped in the middle of its work: its queues are full when this one leads.
            with fleet.orchestrator(config=config) as one:
                eventually(lambda shards=shards: numbers(redis_server) == shards, what="the number")  # type: ignore[misc]
                await more_stored(guest, job_ids, before // 2 + 20)
                assert one.stop() == 0
        with fleet.orchestrator(config=config):
            infos = await ended(guest, job_ids)
            assert {info.status for info in infos} == {JobStatus.COMPLETED}, [info.reason for info in infos]
            (await fleet.ledger(guest)).assert_exact()
            eventually(lambda: layout(redis_server)[3:] == [], what="no stray is left")


def layout(server: RedisServer) -> list[int]:
    """What is published: version, shards, the most there were, and the earlier numbers."""
    with server.client() as client:
        text = client.hget(stage_key("shards", Stage.CHUNKING, "meta"), "layout")
    return [] if text is None else [int(number) for number in text.split()]


def numbers(server: RedisServer) -> int:
    found = layout(server)
    return found[1] if found else 1
