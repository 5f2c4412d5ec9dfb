"""The driver's side of Ray, with actors that a test plays: what one worker's failure does to the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from embedfleet.launchers.ray.messages import (
    DriverMessage,
    Ended,
    Place,
    Request,
    Started,
    Tell,
    WorkerMessage,
)
from embedfleet.ray_driver import placing
from embedfleet.ray_driver.consumer import ENDED_WELL
from embedfleet.ray_driver.placing import Placing
from support.hangs import HANG_SECONDS


class Method:
    """A method of an actor: `remote` calls it."""

    def __init__(self, does: Callable[..., Any]) -> None:
        self.remote = does


class Actor:
    """An actor on a node that has room. It says what the test gives it to say."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self.killed = threading.Event()
        self.start = Method(self._start)
        self.place = Method(self._place)
        self.next_messages = Method(self.says.get)

    async def _start(self, _version: str, *_parts: bytes) -> None:
        return None

    async def _place(self) -> str:
        return "here"


class Stage:
    """Makes an actor for each order. `goes` is what the head answers with: set, unless a test clears it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[DriverMessage] = asyncio.Queue()
        self.actors: dict[str, Actor] = {}
        self.refuses: set[str] = set()
        self.goes = threading.Event()
        self.goes.set()

    def ask(self, order: Place) -> Actor:
        if order.name in self.refuses:
            raise ValueError("Precision of resource TPU is too high")
        assert self.goes.wait(HANG_SECONDS)
        actor = self.actors[order.name] = Actor()
        return actor

    async def next(self) -> DriverMessage:
        return await asyncio.wait_for(self.said.get(), HANG_SECONDS)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(placing, "_kill", lambda actor: actor.killed.set())
    return Stage()


def order(number: int, name: str) -> Place:
    return Place(number, name, b"", {}, {})


async def test_a_worker_that_ray_refuses_ends_alone(stage: Stage) -> None:
    stage.refuses.add("bad")
    placed = Placing(stage.said.put_nowait, stage.ask)
    placed.place(order(1, "good"))
    assert await stage.next() == Started(1, "here")
    placed.place(order(2, "bad"))
    assert await stage.next() == Ended(2, "Precision of resource TPU is too high")
    stage.actors["good"].says.put_nowait([b"report"])
    assert await stage.next() == WorkerMessage(1, b"report")
    stage.actors["good"].says.put_nowait([ENDED_WELL])
    assert await stage.next() == Ended(1, None)
    await placed.close()


async def test_a_head_that_does_not_answer_holds_up_no_worker_that_runs(stage: Stage) -> None:
    placed = Placing(stage.said.put_nowait, stage.ask)
    placed.place(order(1, "good"))
    assert await stage.next() == Started(1, "here")
    stage.goes.clear()
    placed.place(order(2, "late"))
    stage.actors["good"].says.put_nowait([b"report"])
    assert await stage.next() == WorkerMessage(1, b"report")
    # One that is called off while Ray is asked ends at once, and its actor is not left behind.
    await placed.tell(Tell(2, Request.DRAIN))
    assert await stage.next() == Ended(2, "called off")
    stage.goes.set()
    await placed.close()
    async with asyncio.timeout(HANG_SECONDS):
        await asyncio.to_thread(placed._asking.shutdown)
    assert all(actor.killed.is_set() for actor in stage.actors.values())


async def test_the_end_of_a_killed_worker_is_said_also_if_its_node_is_cut_off(stage: Stage) -> None:
    placed = Placing(stage.said.put_nowait, stage.ask)
    placed.place(order(1, "one"))
    assert await stage.next() == Started(1, "here")
    await placed.tell(Tell(1, Request.KILL))
    assert await stage.next() == Ended(1, "called off")
    assert stage.actors["one"].killed.is_set()
    await placed.close()


async def test_a_driver_that_leaves_kills_every_actor(stage: Stage) -> None:
    placed = Placing(stage.said.put_nowait, stage.ask)
    for number in range(3):
        placed.place(order(number, f"actor-{number}"))
        await stage.next()
    await placed.close()
    assert len(stage.actors) == 3
    assert all(actor.killed.is_set() for actor in stage.actors.values())
