"""The orchestrator's side of Ray, with a driver that follows a script: what its handles and errors say."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from embedfleet.errors import ConfigError, PlacementUnavailable
from embedfleet.launchers.launcher import WorkerSpec
from embedfleet.launchers.ray import driver_link
from embedfleet.launchers.ray.driver_link import look_at_nodes
from embedfleet.launchers.ray.launcher import RayLauncher, RayWorker
from embedfleet.launchers.ray.messages import DriverMessage, Node, Nodes, Request, Tell, pack, receive
from embedfleet.metrics.merging import MergedCollector
from embedfleet.queue_schemas import Stage
from embedfleet.ray_driver.placing import as_nodes
from embedfleet.settings import load_settings
from embedfleet.settings.placement import head_of
from support.hangs import HANG_SECONDS
from support.import_path import import_path

Command = Callable[[str], list[str]]
"""Makes the command of a driver that follows this script."""
TESTS = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PYTHONPATH", import_path(TESTS))
    return lambda script: [sys.executable, "-m", "support.scripted_ray_driver", script]


@asynccontextmanager
async def launcher_of(
    command: list[str], **overrides: Any
) -> AsyncIterator[tuple[RayLauncher, MergedCollector]]:
    collector = MergedCollector(CollectorRegistry())
    launcher = RayLauncher(command, load_settings(environ={}, overrides=overrides), collector)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(launcher.close)
        async with asyncio.timeout(HANG_SECONDS):
            yield launcher, collector


def spec(stage: Stage = Stage.EMBEDDING) -> WorkerSpec:
    return WorkerSpec(stage, f"{stage.value}-0")


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - what another process does is no event
        await asyncio.sleep(0.01)


async def test_a_placed_worker_reports_and_a_drained_one_has_not_crashed(
    command: Command,
) -> None:
    async with launcher_of(command("good")) as (launcher, collector):
        worker = await launcher.launch(spec())
        await until(lambda: worker.ready)
        assert (worker.memory_bytes, worker.models, worker.trouble) == (2**20, ("stub",), None)
        worker.drain()
        ended = await worker.wait()
        assert (ended.crashed, ended.reason) == (False, "drained")
        assert collector.total("x_total") == 3, "what it counted stays"


async def test_an_aborted_worker_was_told_to_end(command: Command) -> None:
    async with launcher_of(command("good")) as (launcher, _):
        worker = await launcher.launch(spec())
        await until(lambda: worker.ready)
        worker.abort()
        assert not (await worker.wait()).crashed


async def test_the_death_of_the_driver_is_a_crash_and_the_next_worker_has_another_driver(
    command: Command,
) -> None:
    async with launcher_of(command("die")) as (launcher, _):
        for _ in range(2):
            worker = await launcher.launch(spec())
            ended = await worker.wait()
            assert ended.crashed
            assert "the Ray driver of this host" in ended.reason


@pytest.mark.parametrize("script", ["mute", "garble", "large"])
async def test_a_driver_that_stops_talking_is_killed_and_its_workers_have_crashed(
    command: Command, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(driver_link, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(driver_link, "_END_SECONDS", 0.1)
    async with launcher_of(command(script)) as (launcher, _):
        ended = await (await launcher.launch(spec())).wait()
        assert ended.crashed
        assert ("it was silent" if script == "mute" else "what it sent is no message") in ended.reason


async def test_an_abort_ends_a_worker_whose_driver_does_not_answer(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfleet.launchers.ray.launcher._ABORT_SECONDS", 0.05)
    monkeypatch.setattr("embedfleet.launchers.ray.launcher._KILL_SECONDS", 0.05)
    async with launcher_of(command("mute")) as (launcher, _):
        worker = await launcher.launch(spec())
        await until(lambda: worker.ready)
        worker.abort()
        assert not (await worker.wait()).crashed


async def test_no_worker_is_asked_for_while_the_head_is_silent(command: Command) -> None:
    async with launcher_of(command("headless")) as (launcher, _):
        await launcher.open()
        await until(lambda: launcher._link.trouble.failure)
        worker = await launcher.launch(spec())
        await until(lambda: worker.trouble)
        assert "the head of Ray at this host has not answered for 7 s" in str(worker.trouble)
        assert not worker.placed
        await until(lambda: worker.ready)
        assert worker.trouble is None
        worker.abort()
        await worker.wait()


async def test_a_driver_that_the_system_cannot_start_is_waited_for(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = asyncio.create_subprocess_exec

    async def no_process_left(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    async with launcher_of(command("good")) as (launcher, _):
        monkeypatch.setattr(asyncio, "create_subprocess_exec", no_process_left)
        worker = await launcher.launch(spec())
        await until(lambda: "cannot be started" in str(worker.trouble))
        monkeypatch.setattr(asyncio, "create_subprocess_exec", starts)
        await until(lambda: worker.ready)
        worker.abort()
        await worker.wait()


@pytest.mark.parametrize("address", ["head", "http://127.0.0.1:8265", "ray://h:10001", "local", "h:0", ":1"])
async def test_an_address_of_no_head_is_refused_wherever_it_comes_from(
    command: Command, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT of the head"):
        load_settings(environ={}, overrides={"ray": {"address": address}})
    monkeypatch.setenv("RAY_ADDRESS", address)
    async with launcher_of(command("good")) as (launcher, _):
        with pytest.raises(ConfigError, match=r"RAY_ADDRESS.*HOST:PORT of the head"):
            await launcher.open()


def test_the_head_may_have_an_address_of_ipv6() -> None:
    assert head_of("[::1]:6379") == ("::1", 6379)


async def test_a_request_that_no_node_meets_is_told_at_once_and_its_worker_can_be_called_off(
    command: Command,
) -> None:
    pools = {"embedding": {"resources": {"num_gpus": 1}}}
    async with launcher_of(command("full"), worker_pools=pools) as (launcher, _):
        worker = await launcher.launch(spec())
        await until(lambda: worker.trouble)
        assert isinstance(worker.trouble, PlacementUnavailable)
        assert "no node has so much GPU (nodes have: 127.0.0.1 (aaaaaaaa) CPU 2, GPU 0)" in str(
            worker.trouble
        )
        assert not worker.ready
        worker.drain()
        assert not (await worker.wait()).crashed


async def test_a_cluster_that_refuses_is_an_error_of_the_settings_and_one_that_is_away_is_none(
    command: Command,
) -> None:
    async with launcher_of(command("refuse")) as (launcher, _):
        with pytest.raises(ConfigError, match="token authentication is off"):
            await launcher.open()
    async with launcher_of([sys.executable, "-c", ""]) as (launcher, _):
        with pytest.raises(PlacementUnavailable, match="ended before it had joined"):
            await launcher.open()
        worker = await launcher.launch(spec())
        await until(lambda: worker.trouble)  # it lives, says why it waits, and tries again
        worker.drain()
        assert not (await worker.wait()).crashed


async def test_the_nodes_are_told_without_a_worker(command: Command) -> None:
    settings = load_settings(environ={}, overrides={})
    assert await look_at_nodes(command("good"), settings.ray) == (Node("127.0.0.1 (aaaaaaaa)", {"CPU": 2.0}),)


async def test_secrets_are_in_the_order_and_not_in_the_name(command: Command) -> None:
    async with launcher_of(command("good"), redis={"url": "redis://:hush@h"}) as (launcher, _):
        worker = await launcher.launch(spec())
        assert isinstance(worker, RayWorker)
        assert b"hush" in worker._order.order
        assert "hush" not in repr((worker._order.name, worker._order.amounts, worker._order.labels))
        worker.abort()
        await worker.wait()


async def test_an_embedding_worker_has_as_many_threads_as_cores(command: Command) -> None:
    pools = {"embedding": {"resources": {"num_cpus": 2}}}
    async with launcher_of(command("good"), worker_pools=pools) as (launcher, _):
        worker = await launcher.launch(spec())
        assert b'"threads": 2' in worker._order.order
        worker.abort()
        await worker.wait()


async def test_messages_arrive_as_they_were_sent() -> None:
    sent: list[DriverMessage] = [Nodes((Node("n", {"CPU": 1.0}, {"zone": "a"}),)), Tell(3, Request.ABORT)]
    reader = asyncio.StreamReader()
    reader.feed_data(b"".join(pack(one) for one in sent))
    reader.feed_eof()
    assert [await receive(reader), await receive(reader), await receive(reader)] == [*sent, None]


def test_only_live_nodes_are_listed_in_a_fixed_order() -> None:
    def listed(name: str, alive: bool) -> dict[str, Any]:
        amounts = {"CPU": 4, "node:10.0.0.1": 1.0, "object_store_memory": 9.0, "memory": 2.0}
        return {"NodeID": name * 12, "NodeManagerAddress": "10.0.0.1", "Alive": alive, "Resources": amounts}

    assert as_nodes([listed("b", True), listed("c", False), listed("a", True)]) == Nodes(
        (
            Node("10.0.0.1 (aaaaaaaa)", {"CPU": 4.0, "memory": 2.0}),
            Node("10.0.0.1 (bbbbbbbb)", {"CPU": 4.0, "memory": 2.0}),
        )
    )
