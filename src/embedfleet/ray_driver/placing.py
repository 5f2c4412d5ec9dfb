"""Asks Ray for the actors of an orchestrator's workers, and follows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any

from embedfleet import __version__
from embedfleet.errors import one_line
from embedfleet.launchers.ray.messages import (
    DriverMessage,
    Ended,
    HeadAnswers,
    HeadSilent,
    Node,
    Nodes,
    Place,
    Request,
    Started,
    Tell,
    WorkerMessage,
)
from embedfleet.ray_driver.consumer import ENDED_WELL, FAILED, Consumer, in_parts, node_name
from embedfleet.waiting import cancel_and_wait, unless_stopped

# How often the driver looks which nodes there are, and how long the head may take to answer.
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
# One call asks for messages, one may command, and one is in reserve.
_CALLS_AT_ONCE = 4
_MOST_OF_A_REASON = 500

Send = Callable[[DriverMessage], None]


@dataclass(slots=True)
class _Placed:
    """A worker that was asked for. It has `started` when a node has taken its actor, which has its order.

    `actor` is None until Ray knows it. `called_off` is set when its end is no longer waited for.
    """

    actor: Any = None
    started: bool = False
    called_off: asyncio.Event = field(default_factory=asyncio.Event)
    following: asyncio.Task[None] | None = None


class Placing:
    """The actors of one driver. What goes wrong with one of them ends that one only."""

    def __init__(self, send: Send, ask: Callable[[Place], Any] | None = None) -> None:
        """`send` must not block. `ask` asks Ray for an actor, and may wait for the head of the cluster."""
        self._send = send
        self._ask = ask or _actor_for
        self._placed: dict[int, _Placed] = {}
        # One thread that waits for the head. On the event loop, the wait would stop the questions to the
        # actors that run, and after a while they would take their driver for dead.
        self._asking = ThreadPoolExecutor(1, "ask Ray")

    def place(self, order: Place) -> None:
        """Ask for an actor. While no node can take it, Ray's autoscaler knows what is asked for."""
        placed = self._placed[order.worker] = _Placed()
        placed.following = asyncio.create_task(self._follow(order, placed), name=order.name)

    async def tell(self, told: Tell) -> None:
        """Command the worker. One that no node has taken yet is called off."""
        placed = self._placed.get(told.worker)
        if placed is None:
            return
        if told.request is Request.KILL or not placed.started:
            _call_off(placed)
            return
        with suppress(_ray_error()):  # the actor has ended: who follows it says so
            await placed.actor.obey.remote(told.request.value)

    async def close(self) -> None:
        """End all actors."""
        placed = list(self._placed.values())
        for one in placed:
            _call_off(one)
        await cancel_and_wait(*(one.following for one in placed if one.following is not None))
        self._asking.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, order: Place, placed: _Placed) -> None:
        """Follow a worker from the request to its end, and say how it ended."""
        failure: str | None = "called off"
        try:
            # At a kill the end is said at once: a node that is cut off would never answer.
            last = await unless_stopped(placed.called_off, self._live(order, placed))
            if last is not None:
                failure = None if last == ENDED_WELL else "the worker failed"
        except Exception as exc:  # noqa: BLE001 - said; it must not end the driver, and with it all others
            failure = one_line(exc)[:_MOST_OF_A_REASON]
        finally:
            # An actor whose worker has ended holds its resources until it is killed.
            _call_off(placed)
            self._placed.pop(order.worker, None)
        self._send(Ended(order.worker, failure))

    async def _live(self, order: Place, placed: _Placed) -> bytes:
        """Have the actor made, and hand on what it says. Return its last message."""
        await asyncio.get_running_loop().run_in_executor(self._asking, self._make_actor, order, placed)
        await placed.actor.start.remote(__version__, *in_parts(order.order))
        placed.started = True
        self._send(Started(order.worker, await placed.actor.place.remote()))
        while (last := self._hand_on(order.worker, await placed.actor.next_messages.remote())) is None:
            pass
        return last

    def _make_actor(self, order: Place, placed: _Placed) -> None:
        """Ask Ray for the actor, on a thread."""
        placed.actor = self._ask(order)
        # In this order: `_call_off` sets the event before it looks for the actor, so one of the two sees it.
        if placed.called_off.is_set():
            _kill(placed.actor)

    def _hand_on(self, worker: int, messages: list[bytes]) -> bytes | None:
        """Hand on what the worker says. Return its last message once it is there."""
        for message in messages:
            if message in (ENDED_WELL, FAILED):
                return message
            self._send(WorkerMessage(worker, message))
        return None


async def watch_nodes(send: Send, known: Nodes) -> None:
    """Tell the orchestrator at every look whether the head answers, and the nodes if they have changed.

    So the orchestrator hears of a driver that lives at least every few seconds.
    """
    import ray

    silent_since: float | None = None
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        asked_at = monotonic()
        looking = asyncio.create_task(asyncio.to_thread(ray.nodes))
        while not (await asyncio.wait([looking], timeout=_ANSWER_SECONDS))[0]:
            silent_since = silent_since or asked_at
            send(HeadSilent(monotonic() - silent_since))
        if looking.exception() is not None:  # Ray has waited long enough for the head
            silent_since = silent_since or asked_at
            send(HeadSilent(monotonic() - silent_since))
            continue
        now = as_nodes(looking.result())
        send(HeadAnswers() if now == known else now)
        known, silent_since = now, None


def as_nodes(listed: list[dict[str, Any]]) -> Nodes:
    """What Ray lists of its nodes; only those that live, in a fixed order."""
    nodes = [
        Node(
            node_name(one["NodeManagerAddress"], one["NodeID"]),
            {
                name: float(amount)
                for name, amount in one["Resources"].items()
                if not name.startswith(("node:", "object_store_memory"))
            },
            dict(one.get("Labels") or {}),
        )
        for one in listed
        if one["Alive"]
    ]
    return Nodes(tuple(sorted(nodes, key=lambda node: node.name)))


def _actor_for(order: Place) -> Any:
    amounts = dict(order.amounts)
    memory = amounts.pop("memory", None)
    # `max_restarts` is 0: the pool of the orchestrator starts another worker, after its pause.
    options: dict[str, Any] = {
        "name": order.name,
        "num_cpus": amounts.pop("CPU", 0),
        "num_gpus": amounts.pop("GPU", 0),
        "resources": amounts,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": _CALLS_AT_ONCE,
        "scheduling_strategy": "SPREAD",
    }
    if memory is not None:
        options["memory"] = int(memory)
    if order.labels:
        options["label_selector"] = dict(order.labels)
    return _actor_class().options(**options).remote()


@cache
def _actor_class() -> Any:
    """The class as Ray knows it. One object: Ray sends each new one to the head again."""
    import ray

    return ray.remote(Consumer)


def _call_off(placed: _Placed) -> None:
    """End the actor; if Ray does not know it yet, as soon as it does."""
    placed.called_off.set()
    if placed.actor is not None:
        _kill(placed.actor)


def _kill(actor: Any) -> None:
    import ray

    with suppress(_ray_error()):  # it has ended
        ray.kill(actor)


def _ray_error() -> type[Exception]:
    from ray.exceptions import RayError

    error: type[Exception] = RayError
    return error
