"""RedisBroker and the server it depends on: which one is refused at the start, and which faults heal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import pytest
from loguru import logger

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable, ConfigError
from embedfleet.host.broker_watch import BrokerWatch
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import TenantShare
from embedfleet.queue.redis_broker import RedisBroker
from support.brokers import served_again
from support.hangs import HANG_SECONDS
from support.redis_brokers import LEASE_SECONDS, NEVER, STAGE, claim, make_tasks, opened
from support.redis_server import RedisServer, free_ports, redis_settings

T = TypeVar("T")


async def open_and_close(url: str, **options: str) -> None:
    broker = await RedisBroker.open(redis_settings(url, **options))
    await broker.close()


async def refused(url: str, pattern: str, **options: str) -> str:
    """The message of the ConfigError."""
    with pytest.raises(ConfigError, match=pattern) as error:
        await open_and_close(url, **options)
    return str(error.value)


@pytest.fixture
async def broker(redis_server: RedisServer) -> AsyncIterator[RedisBroker]:
    async with opened(redis_server) as broker:
        yield broker


# --- what is refused at the start ---------------------------------------------------------------


async def test_a_server_that_evicts_is_refused_by_the_name_of_its_setting() -> None:
    with RedisServer("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        named = r"maxmemory-policy allkeys-lru.*set maxmemory-policy to noeviction"
        await refused(server.url, named)


async def test_a_wrong_password_is_a_matter_of_settings() -> None:
    with RedisServer(password="right") as server:
        await open_and_close(server.url, password="right")
        for options in ({}, {"password": "hunter2"}, {"username": "nobody", "password": "hunter2"}):
            assert "hunter2" not in await refused(
                server.url, r"redis\.username and redis\.password", **options
            )


async def test_a_user_without_rights_is_a_matter_of_settings() -> None:
    with RedisServer() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+info", "+client")
        broker = await RedisBroker.open(redis_settings(server.url, username="reader", password="pw"))
        with pytest.raises(ConfigError, match=r"rights of redis\.username"):
            await broker.enqueue(STAGE, make_tasks(1))
        await broker.close()


async def test_a_user_who_may_not_ask_how_the_server_is_set_up_is_warned() -> None:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    try:
        with RedisServer() as server, server.client() as client:
            rights = ["~{embedfleet:*", "resetchannels", "&{embedfleet:*", "+@all", "-info"]
            client.execute_command("ACL", "SETUSER", "worker", "on", ">pw", *rights)
            broker = await RedisBroker.open(redis_settings(server.url, username="worker", password="pw"))
            assert await broker.enqueue(STAGE, make_tasks(1)) == 1
            assert await broker.epoch()
            await broker.close()
    finally:
        logger.remove(sink)
    assert "maxmemory-policy" in "".join(said)


async def test_a_replica_is_refused() -> None:
    with RedisServer("--replicaof", "127.0.0.1", str(free_ports(1)[0])) as replica:
        await refused(replica.url, "read-only replica")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with RedisServer() as server:
        url = server.url
    for absent in (url, f"redis://127.0.0.1:{free_ports(1)[0]}", "redis+cluster://127.0.0.1:1"):
        with pytest.raises(BrokerUnavailable):
            await open_and_close(absent)


# --- what heals ---------------------------------------------------------------------------------


async def test_a_primary_that_became_a_replica_is_unavailable_until_it_is_primary_again() -> None:
    with RedisServer() as server, server.client() as client:
        async with opened(server) as broker:
            client.replicaof("127.0.0.1", str(free_ports(1)[0]))
            with pytest.raises(BrokerUnavailable, match="read-only replica"):
                await broker.enqueue(STAGE, make_tasks(1))
            client.replicaof("NO", "ONE")
            assert await broker.enqueue(STAGE, make_tasks(1)) == 1


async def test_full_memory_refuses_new_tasks_and_lets_those_there_be_finished(clock: ManualClock) -> None:
    with RedisServer() as server, server.client() as client:
        async with opened(server, clock=clock) as broker:
            await broker.set_shares({"heavy": TenantShare(weight=3)})
            await broker.enqueue(STAGE, [*make_tasks(7), *make_tasks(5, tenant="heavy", job="other")])
            acked, retried, handed_back, dead, kept = await claim(broker, 5)
            metrics = Metrics()
            watch = BrokerWatch(broker=broker, metrics=metrics)
            await watch.look()
            assert metrics.registry.get_sample_value("embedding_broker_up") == 1
            client.config_set("maxmemory", 1)

            with pytest.raises(BrokerUnavailable, match="maxmemory"):
                await broker.check_writes(STAGE)
            await watch.look()
            assert metrics.registry.get_sample_value("embedding_broker_up") == 0
            assert "maxmemory" in str(watch.trouble.failure), "so `/readyz` says it"
            with pytest.raises(BrokerUnavailable, match="maxmemory"):
                await broker.enqueue(STAGE, make_tasks(1, job="more"))
            assert await broker.ack([acked]) == []
            await broker.retry_later(retried, delay_seconds=1, reason="busy")
            assert await broker.hand_back([handed_back]) == []
            await broker.dead_letter(dead, reason="poison")
            assert len(await broker.renew([kept], lease_seconds=LEASE_SECONDS)) == 1
            clock.advance(LEASE_SECONDS)
            assert await broker.promote_due(STAGE) == 1
            assert await broker.reap_expired(STAGE) == 1
            assert await broker.requeue_dead(STAGE, [dead.task.id]) == 1
            [lease] = await claim(broker, 1)
            assert await broker.cancel_job(lease.task.job_id) > 0
            assert await broker.ack([lease]) == []

            client.config_set("maxmemory", 0)
            assert await broker.enqueue(STAGE, make_tasks(1, job="more")) == 1


async def test_a_server_killed_and_started_again_goes_on_where_it_was() -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server, look_again_seconds=NEVER) as broker:
            epoch = await broker.epoch()
            await broker.enqueue(STAGE, make_tasks(3))
            leases = await claim(broker, 2)
            server.kill()
            for call in (lambda: claim(broker), lambda: broker.depth(STAGE)):
                with pytest.raises(BrokerUnavailable):
                    await call()
            server.start()

            await served_again(lambda: broker.depth(STAGE))
            assert await broker.epoch() != epoch, "its last second might have been lost"
            assert await broker.ack([leases[0]]) == []
            [again] = await claim(broker)
            assert again.fence > max(lease.fence for lease in leases)
            assert await broker.ack([again]) == []
            waiting = asyncio.create_task(broker.wait_for_ready(STAGE, timeout_seconds=HANG_SECONDS))
            assert await broker.hand_back([leases[1]]) == []
            assert await waiting


async def test_a_broker_that_lost_everything_says_so_and_never_repeats_a_fence(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    epoch = await broker.epoch()
    await broker.enqueue(STAGE, make_tasks(1))
    [before] = await claim(broker)
    with redis_server.client() as client:
        client.flushall()

    await broker.enqueue(STAGE, make_tasks(1))
    assert await broker.epoch() != epoch
    [after] = await claim(broker)
    assert before.fence < after.fence < 2**53
    assert await broker.ack([before]) == [before]
    assert await broker.ack([after]) == []


async def test_scripts_the_server_forgot_are_sent_again(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    await broker.enqueue(STAGE, make_tasks(1))
    with redis_server.client() as client:
        client.script_flush()
    [lease] = await claim(broker)
    assert await broker.ack([lease]) == []


async def test_connections_that_broke_are_replaced(broker: RedisBroker, redis_server: RedisServer) -> None:
    await asyncio.gather(*(broker.depth(STAGE) for _ in range(8)))
    with redis_server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    await broker.enqueue(STAGE, make_tasks(1))
    assert len(await claim(broker)) == 1


async def test_a_connection_that_the_client_closed_while_it_was_opened_counts_as_broken(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py closes connections to a lost node of a cluster, also one that another call is just opening."""
    client = broker._connection._client
    real = client.execute_command
    torn = 0

    async def torn_once(*command: Any) -> Any:
        nonlocal torn
        torn += 1
        if torn == 1:
            raise AttributeError("'NoneType' object has no attribute 'writelines'")
        return await real(*command)

    monkeypatch.setattr(client, "execute_command", torn_once)
    assert await broker.enqueue(STAGE, make_tasks(1)) == 1, "it is repeated"
    torn = 0
    with pytest.raises(BrokerUnavailable, match="closed while it was opened"):
        await claim(broker)


async def test_only_what_is_harmless_is_repeated_when_its_connection_breaks(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    await broker.enqueue(STAGE, make_tasks(1))
    with redis_server.client() as client:

        async def broken(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
            """The call, held up by the server and then cut off."""
            client.client_pause(HANG_SECONDS * 1000, all=False)
            task = asyncio.create_task(call)
            async with asyncio.timeout(HANG_SECONDS):
                # Redis sends no event when it holds a client up: its list of clients says so.
                while not any("b" in one["flags"] for one in client.client_list()):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_unpause()
            return task

        assert await (await broken(broker.enqueue(STAGE, make_tasks(1, job="more")))) == 1
        assert (await (await broken(broker.depth(STAGE)))).ready == 2
        with pytest.raises(BrokerUnavailable):
            await (await broken(claim(broker)))
    assert (await broker.depth(STAGE)).ready == 2


async def test_a_server_that_does_not_answer_is_unavailable_and_heals() -> None:
    with RedisServer() as server:
        options = redis_settings(server.url, socket_timeout_seconds=1, connect_timeout_seconds=1)
        broker = await RedisBroker.open(options)
        await served_again(lambda: broker.depth(STAGE))
        server.pause()
        try:
            with pytest.raises(BrokerUnavailable):
                await claim(broker)
        finally:
            server.resume()
        await served_again(lambda: broker.depth(STAGE))
        await broker.close()


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_that_is_cancelled_ends(redis_server: RedisServer, turns: int) -> None:
    """Wherever it is just then: connecting, sending or waiting for the answer."""
    async with opened(redis_server) as broker:
        call = asyncio.create_task(broker.wait_for_ready(STAGE, timeout_seconds=NEVER))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call], timeout=HANG_SECONDS)
        assert call.cancelled()
