"""The actor of a worker without Ray: its orders, and its end when its driver is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from embedfleet import __version__
from embedfleet.launchers.channel import Failure, Order, Report, pack_body, unpack_body
from embedfleet.queue_schemas import Stage
from embedfleet.ray_driver import consumer
from embedfleet.ray_driver.consumer import ENDED_WELL, FAILED, Consumer, in_parts
from embedfleet.settings import load_settings
from support.hangs import HANG_SECONDS
from support.redis_server import free_ports

DRIVERLESS = """
import sys, threading
from embedfleet.ray_driver import consumer
consumer._SILENCE_SECONDS = 0.2
consumer._hide_devices_of_others = lambda: None
one = consumer.Consumer()
one.start(consumer.__version__, *consumer.in_parts(sys.stdin.buffer.read()))
threading.Event().wait()
"""


def order() -> bytes:
    """Of a worker whose services are away: it waits for them."""
    [port] = free_ports(1)
    nowhere = {
        "redis": {"url": f"redis://127.0.0.1:{port}"},
        "database": {"url": f"postgresql://u@127.0.0.1:{port}/x"},
        "vector_store": {"url": f"http://127.0.0.1:{port}"},
    }
    settings = load_settings(environ={}, overrides=nowhere)
    return pack_body(Order(Stage.CHUNKING, "chunking-0", settings.to_json(), 0))


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    monkeypatch.setattr(consumer, "_hide_devices_of_others", lambda: None)
    # An actor that hears nothing any more ends its process, which is that of the tests here.
    monkeypatch.setattr(consumer, "_SILENCE_SECONDS", 1e6)
    monkeypatch.setattr("embedfleet.log.configure", lambda **_: None)  # this process has the log of the tests
    return Consumer()


def test_an_actor_whose_driver_is_silent_ends_its_process_by_itself() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DRIVERLESS],
        input=order(),
        env=dict(os.environ),
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert ended.returncode == 1
    assert b"silent" in ended.stderr


def test_it_tells_why_it_waits_and_ends_well_when_it_is_told_to(actor: Consumer) -> None:
    actor.start(__version__, *in_parts(order()))
    said = unpack_body(actor.next_messages()[0])
    assert isinstance(said, Report)
    assert said.trouble is not None
    assert not said.ready
    actor.obey("drain")
    assert until_the_end(actor) == ENDED_WELL


def test_a_command_that_comes_before_the_event_loop_runs_is_obeyed(actor: Consumer) -> None:
    actor.obey("abort")
    actor.start(__version__, *in_parts(order()))
    assert until_the_end(actor) == ENDED_WELL


def test_a_large_order_goes_in_parts_that_ray_keeps_out_of_its_object_store() -> None:
    large = bytes(200_000)
    parts = in_parts(large)
    assert b"".join(parts) == large
    assert max(len(part) for part in parts) < 100 * 2**10


def test_another_release_is_refused_by_name(actor: Consumer) -> None:
    actor.start("0.0.0", *in_parts(order()))
    failure, last = actor.next_messages()
    said = unpack_body(failure)
    assert isinstance(said, Failure)
    assert f"the node has embedfleet {__version__}, the orchestrator 0.0.0" in said.reason
    assert last == FAILED


def until_the_end(actor: Consumer) -> bytes:
    """The last message of the actor."""
    while True:
        for message in actor.next_messages():
            if message in (ENDED_WELL, FAILED):
                return message


@pytest.mark.parametrize(("given", "seen"), [({"GPU": ["1"]}, "1"), ({"GPU": []}, ""), ({}, "")])
def test_a_worker_without_a_gpu_of_its_own_sees_none(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, list[str]], seen: str
) -> None:
    ray = pytest.importorskip("ray")
    context = SimpleNamespace(get_accelerator_ids=lambda: given)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    for name in consumer._VISIBLE:
        monkeypatch.setenv(name, "1")
    consumer._hide_devices_of_others()
    assert {os.environ[name] for name in consumer._VISIBLE} == {seen}
