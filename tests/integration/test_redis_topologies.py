"""RedisBroker through sentinels, on a cluster, and over TLS. The whole contract on a cluster is in
`conformance/test_broker_*.py`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.errors import BrokerUnavailable, ConfigError
from embedfleet.queue.broker import MAX_COST, Lease, Task
from embedfleet.queue.keys import stage_key
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.brokers import served_again
from support.hangs import HANG_SECONDS
from support.redis_server import RedisServer, free_ports, redis_settings
from support.redis_topologies import RedisClusterServers, RedisSentinelServers

STAGE = Stage.EMBEDDING


def a_task(task_id: str) -> Task:
    return Task(task_id, "acme", "job", 10, b"p")


async def claim(broker: RedisBroker) -> list[Lease]:
    return await broker.claim(STAGE, worker="w", max_tasks=10, max_cost=MAX_COST, lease_seconds=60)


@pytest.fixture(scope="module")
def sentinels() -> Iterator[RedisSentinelServers]:
    with RedisSentinelServers() as servers:
        yield servers


async def test_sentinels_that_do_not_know_the_service_are_unavailable(
    sentinels: RedisSentinelServers,
) -> None:
    with pytest.raises(BrokerUnavailable, match="other"):
        await RedisBroker.open(redis_settings(sentinels.url.replace("/main", "/other")))


async def test_a_failover_is_followed_by_whoever_asks_the_sentinels(sentinels: RedisSentinelServers) -> None:
    """The last test of these servers: one of them is gone after it."""
    broker = await RedisBroker.open(redis_settings(sentinels.url))
    epoch = await broker.epoch()
    await broker.enqueue(STAGE, [a_task("before")])
    [before] = await claim(broker)
    sentinels.replicate()
    sentinels.primary.kill()

    await served_again(lambda: broker.enqueue(STAGE, [a_task("after")]))
    assert await broker.epoch() != epoch, "a replica may not have heard the last of it"
    [after] = await claim(broker)
    assert (after.task.id, after.fence > before.fence) == ("after", True)
    waiting = asyncio.create_task(broker.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS))
    assert await broker.ack([before]) == []
    assert await broker.hand_back([after]) == []
    assert await waiting
    await broker.close()


async def test_every_stage_of_a_cluster_is_reached_from_one_node(redis_cluster: RedisClusterServers) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_cluster.nodes[0].port}"
    broker = await RedisBroker.open(redis_settings(url))
    for stage in Stage:
        assert await broker.enqueue(stage, [a_task("a")]) == 1
    assert await broker.cancel_job("job") == len(Stage)
    holders = [node for node in redis_cluster.nodes if node.client().dbsize()]
    assert len(holders) > 1, "the stages are spread"
    await broker.close()


async def test_a_cluster_that_evicts_anywhere_is_refused(redis_cluster: RedisClusterServers) -> None:
    with redis_cluster.nodes[1].client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ConfigError, match="maxmemory-policy"):
                await RedisBroker.open(redis_settings(redis_cluster.url))
        finally:
            client.config_set("maxmemory-policy", "noeviction")


async def test_a_lost_node_is_unavailable_and_heals() -> None:
    with RedisClusterServers() as servers:
        options = redis_settings(servers.url, socket_timeout_seconds=1)
        broker = await RedisBroker.open(options)
        await broker.depth(STAGE)
        holder = servers.holder(stage_key("embedfleet", STAGE, "meta"))
        holder.kill()
        with pytest.raises(BrokerUnavailable):
            await broker.depth(STAGE)
        holder.start()
        await served_again(lambda: broker.enqueue(STAGE, [a_task("a")]))
        assert len(await claim(broker)) == 1
        await broker.close()


async def test_a_server_is_trusted_by_its_certificate(tmp_path: Path) -> None:
    certificate, key = _make_certificate(tmp_path)
    [port] = free_ports(1)
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    files += ["--tls-ca-cert-file", str(certificate)]
    try:
        server = RedisServer("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    except AssertionError:
        pytest.skip("this redis-server has no TLS")
    with server:
        url = f"rediss://127.0.0.1:{port}"
        broker = await RedisBroker.open(redis_settings(url, tls_ca_file=str(certificate)))
        assert await broker.enqueue(STAGE, [a_task("a")]) == 1
        await broker.close()
        with pytest.raises(BrokerUnavailable, match="certificate"):
            await RedisBroker.open(redis_settings(url))


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=redis"
    for_address = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, *request.split(), *for_address, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate, key
