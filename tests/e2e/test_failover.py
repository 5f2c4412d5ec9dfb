"""A primary of Redis is gone in the middle of a run: a replica takes over, and the fleet works on.

A replica may lack what its primary had answered last. SQL is the truth, so this loses no document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest

from embedfleet.queue.keys import stage_key
from embedfleet.queue_schemas import JobStatus, Stage
from support.chroma_server import ChromaServer
from support.fleet import QUICK_LEASES, Fleet, ended, more_stored, submit_for
from support.hangs import HANG_SECONDS
from support.redis_topologies import RedisClusterServers, RedisSentinelServers

TENANT = "failover"
"""Of this file only: tests share a Chroma server, whose collections are named after tenants."""

CHUNKS = 100
DOCUMENTS = 8


class Failing(NamedTuple):
    """A Redis whose primary of the embedding queue can be killed."""

    url: str
    kill: Callable[[], None]


@contextmanager
def cluster() -> Iterator[Failing]:
    with RedisClusterServers(replicas=True) as servers:
        key = stage_key("failover", Stage.EMBEDDING, "meta")
        yield Failing(servers.url, lambda: servers.holder(key).kill())


@contextmanager
def sentinel_trio() -> Iterator[Failing]:
    with RedisSentinelServers(sentinels=3) as servers:
        yield Failing(servers.url, servers.primary.kill)


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "shards"), [(cluster, 1), (cluster, 6), (sentinel_trio, 1)])
async def test_a_primary_that_is_lost_in_the_middle_loses_and_doubles_nothing(
    topology: Callable[[], AbstractContextManager[Failing]],
    shards: int,
    tmp_path: Path,
    postgres_url: str,
    chroma_server: ChromaServer,
) -> None:
    with topology() as redis:
        fleet = Fleet(
            tmp_path,
            {
                "data_dir": str(tmp_path / "unused"),
                "redis": {"url": redis.url, "key_prefix": "failover", "shards": shards},
                "database": {"url": postgres_url},
                "vector_store": {"url": chroma_server.url},
                "models": {"default": "stub"},
                "chunking": {"batch_chunks": 4},
                "worker_pools": QUICK_LEASES,
                "orchestrator": {"heartbeat_seconds": 0.5, "leader_lease_seconds": 2},
            },
        )
        async with fleet.guest() as guest:
            job_ids = await submit_for(TENANT, guest, "old", DOCUMENTS, CHUNKS)
            with fleet.orchestrator() as one:
                await more_stored(guest, job_ids, CHUNKS)
                pids = {worker.pid for worker in one.workers()}
                redis.kill()
                killed_at = monotonic()
                [new] = await submit_for(TENANT, guest, "new", 1, CHUNKS)
                info = await guest.jobs.wait(new, timeout_seconds=HANG_SECONDS)
                assert info.status is JobStatus.COMPLETED, info.reason
                print(f"a new document was searchable {monotonic() - killed_at:.1f} s after the loss")
                assert {info.status for info in await ended(guest, job_ids)} == {JobStatus.COMPLETED}
                assert {worker.pid for worker in one.workers()} == pids, "no worker had to be restarted"
            (await fleet.ledger(guest)).assert_exact()
