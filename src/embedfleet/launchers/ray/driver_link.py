"""Keeps an orchestrator joined to its Ray cluster, through a driver process that may end at any time.

Ray ends a driver that has lost the head of its cluster for a minute, and kills the actors of a driver that is
gone. So when the driver ends, all its workers count as crashed, and the next `session` starts another driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from embedfleet import child_environment
from embedfleet.errors import ConfigError, EmbedfleetError, PlacementUnavailable
from embedfleet.launchers.ray.messages import (
    Connect,
    DriverMessage,
    Ended,
    HeadAnswers,
    HeadSilent,
    Node,
    Nodes,
    Place,
    Refused,
    Started,
    WorkerMessage,
    pack,
    receive,
)
from embedfleet.retry import BackOff
from embedfleet.settings import RaySettings
from embedfleet.settings.placement import AUTO, head_of
from embedfleet.trouble import Trouble
from embedfleet.waiting import wait_briefly

# Ray itself gives up on a head that does not answer after a minute.
_JOIN_SECONDS = 75.0
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0
# The driver needs this long at most to leave the cluster.
_LEAVE_SECONDS = 10.0

# A driver tells every second or two that it lives. As long as an actor waits for its driver, and counted in
# looks: an orchestrator that was itself stopped has not heard its driver, and must not kill it for that.
_SILENT_LOOKS = 30
_LOOK_SECONDS = 1.0
# A process that has closed its pipe, or sends nonsense, ends within this time or is killed.
_END_SECONDS = 5.0

OfWorker = Started | WorkerMessage | Ended


@dataclass(slots=True)
class Session:
    """A driver that has joined the cluster. `nodes` are those at its last look.

    `head_answers` is set while the head of the cluster answers, and when the driver has ended.
    """

    process: Process
    nodes: Sequence[Node]
    alive: bool = True
    head_answers: asyncio.Event = field(default_factory=asyncio.Event)
    inboxes: dict[int, asyncio.Queue[OfWorker]] = field(default_factory=dict)

    def place(self, order: Place) -> asyncio.Queue[OfWorker]:
        """Ask for a worker. What becomes of it comes into the queue, and last an `Ended`."""
        inbox = self.inboxes[order.worker] = asyncio.Queue()
        self.send(order)
        if not self.alive:  # the driver ended a moment ago, and nothing else comes
            inbox.put_nowait(Ended(order.worker, "the Ray driver of this host has ended"))
        return inbox

    def send(self, message: DriverMessage) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # the driver has ended: the workers are told
            self.process.stdin.write(pack(message))

    def deliver(self, message: OfWorker) -> None:
        inbox = self.inboxes.get(message.worker)
        if inbox is not None:
            inbox.put_nowait(message)
        if isinstance(message, Ended):
            self.inboxes.pop(message.worker, None)

    def end(self, reason: str) -> None:
        """The driver has ended, and Ray with it ends its actors."""
        self.alive = False
        self.head_answers.set()
        for worker, inbox in self.inboxes.items():
            inbox.put_nowait(Ended(worker, reason))
        self.inboxes.clear()


class DriverLink:
    """Starts the driver and follows it. All methods are called on one event loop."""

    def __init__(self, command: Sequence[str], settings: RaySettings) -> None:
        """`command` runs a Ray driver, which reads `Connect` from standard input."""
        self._command = command
        self._settings = settings
        self._session: Session | None = None
        self._following: asyncio.Task[None] | None = None
        # The driver that is about to join, and the task that starts it: one for all workers that wait for it.
        self._starting: Process | None = None
        self._joining: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._back_off = BackOff(_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self.trouble = Trouble(over="the Ray cluster answers again")

    @property
    def place(self) -> str:
        """Where the cluster is, for messages."""
        return place_of(self._settings)

    async def open(self) -> Session:
        """Join the cluster now. Raises PlacementUnavailable if it is away, ConfigError if it refuses."""
        await self._shared(self._join)
        assert self._session is not None
        return self._session

    async def session(self) -> Session:
        """Return the driver that is joined to the cluster. Start one if there is none, again and again.

        It is returned once the head of the cluster answers: nothing starts without it. Why this waits is in
        `trouble`. Raises PlacementUnavailable if the link is closed.
        """
        while True:
            session = self._session
            if session is None or not session.alive:
                await self._shared(self._join_at_last)
            elif session.head_answers.is_set():
                return session
            else:
                await session.head_answers.wait()

    async def close(self) -> None:
        """End the driver, and with it the workers that are left."""
        self._closing.set()
        if self._joining is not None:
            if self._starting is not None:
                kill(self._starting)
            await asyncio.gather(self._joining, return_exceptions=True)
        if self._session is None or self._following is None:
            return
        assert self._session.process.stdin is not None
        self._session.process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._following), _LEAVE_SECONDS)
        except TimeoutError:
            kill(self._session.process)
            await self._following

    async def _shared(self, join: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the task that joins; begin it if there is none.

        Cancelling one worker's wait does not cancel this task: others may wait for the same driver, and a
        process whose start was cancelled would be left behind.
        """
        if self._joining is None or self._joining.done():
            self._joining = asyncio.create_task(join(), name="join Ray")
        await asyncio.shield(self._joining)

    async def _join_at_last(self) -> None:
        """Try to join until that succeeds."""
        while True:
            try:
                await self._join()
            except EmbedfleetError as exc:
                if self._closing.is_set():
                    raise
                self.trouble.note(exc)
                await wait_briefly(self._closing, self._back_off.next_seconds())
            else:
                return

    async def _join(self) -> None:
        if self._closing.is_set():
            raise PlacementUnavailable("this process leaves Ray")
        address = address_of(self._settings)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                env=child_environment.without_settings(),
                start_new_session=True,
            )
        except OSError as exc:  # no memory, processes or files are left: of these, more come
            raise PlacementUnavailable(f"the Ray driver cannot be started: {exc}") from exc
        self._starting = process
        try:
            session = Session(process, await self._answer_to_join(process, address))
        except BaseException:
            kill(process)
            await process.wait()
            raise
        finally:
            self._starting = None
        session.head_answers.set()
        self._session = session
        self._back_off.reset()
        self.trouble.clear()
        logger.info("joined Ray at {}: {} nodes", self.place, len(session.nodes))
        self._following = asyncio.create_task(self._follow(session), name="follow the Ray driver")

    async def _answer_to_join(self, process: Process, address: str) -> Sequence[Node]:
        """Tell the driver which cluster to join. Return its nodes."""
        assert process.stdin is not None
        assert process.stdout is not None
        given = self._settings
        process.stdin.write(pack(Connect(address, given.namespace, given.require_token, os.getpid())))
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                answer = await receive(process.stdout)
        except TimeoutError:
            raise PlacementUnavailable(
                f"Ray at {self.place} did not answer in {_JOIN_SECONDS:.0f} s"
            ) from None
        return _nodes_of(answer, self.place)

    async def _follow(self, session: Session) -> None:
        """Hand on what the driver says until it has ended. However that is, its process and workers end."""
        why = "it failed"
        try:
            why = await self._hear(session)
        finally:
            kill(session.process)
            code = await session.process.wait()
            session.end(f"the Ray driver of this host ended ({why}, exit code {code})")

    async def _hear(self, session: Session) -> str:
        """Hand on what the driver says until it says no more. Return why that is."""
        assert session.process.stdout is not None
        while True:
            try:
                message = await _next_message(session.process.stdout)
            except TimeoutError:
                return f"it was silent for {_SILENT_LOOKS * _LOOK_SECONDS:.0f} s"
            match message:
                case Nodes(nodes):
                    _log_changes(session.nodes, nodes)
                    session.nodes = nodes
                    self._head_answers(session)
                case HeadAnswers():
                    self._head_answers(session)
                case HeadSilent(seconds):
                    session.head_answers.clear()
                    self.trouble.note(
                        PlacementUnavailable(
                            f"the head of Ray at {self.place} has not answered for {seconds:.0f} s: workers "
                            "that run go on, none can start"
                        )
                    )
                case Started() | WorkerMessage() | Ended():
                    session.deliver(message)
                case _:
                    return await _how_it_ends(session.process)

    def _head_answers(self, session: Session) -> None:
        session.head_answers.set()
        self.trouble.clear()


async def _next_message(reader: asyncio.StreamReader) -> DriverMessage | None:
    """Return the next message; None if there is none any more. Raises TimeoutError at a long silence."""
    coming = asyncio.create_task(receive(reader), name="next message")
    try:
        for _ in range(_SILENT_LOOKS):
            if (await asyncio.wait([coming], timeout=_LOOK_SECONDS))[0]:
                return coming.result()
        raise TimeoutError
    finally:
        coming.cancel()


async def _how_it_ends(process: Process) -> str:
    """Return why the pipe of a driver gives no more messages, once its process has had time to end."""
    try:
        await asyncio.wait_for(process.wait(), _END_SECONDS)
    except TimeoutError:
        return "it closed its pipe, or what it sent is no message"
    return "as it does when the head is away"


def kill(process: Process) -> None:
    """Kill the driver, if it has not ended yet."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def address_of(settings: RaySettings) -> str:
    """Return the address of the cluster of these settings. Raises ConfigError if it is that of no head."""
    address = settings.address or os.environ.get("RAY_ADDRESS") or AUTO
    if address != AUTO:
        try:
            head_of(address)
        except ValueError as exc:
            raise ConfigError(f"the variable RAY_ADDRESS is {address!r}: {exc}") from exc
    return address


def place_of(settings: RaySettings) -> str:
    """Where the cluster of these settings is, for messages."""
    return settings.address or os.environ.get("RAY_ADDRESS") or "this host"


async def look_at_nodes(command: Sequence[str], settings: RaySettings) -> Sequence[Node]:
    """Return the nodes of the cluster. Raises PlacementUnavailable and ConfigError."""
    link = DriverLink(command, settings)
    try:
        return (await link.open()).nodes
    finally:
        await link.close()


def _nodes_of(answer: DriverMessage | None, place: str) -> Sequence[Node]:
    match answer:
        case Nodes(nodes):
            return nodes
        case Refused(reason, mistaken):
            raise (ConfigError if mistaken else PlacementUnavailable)(f"Ray at {place}: {reason}")
    raise PlacementUnavailable(f"Ray at {place}: the driver ended before it had joined: see its output")


def _log_changes(before: Sequence[Node], now: Sequence[Node]) -> None:
    known, present = {node.name for node in before}, {node.name for node in now}
    for name in sorted(known - present):
        logger.warning("node {} is lost: its workers start on other nodes", name)
    for name in sorted(present - known):
        logger.info("node {} has joined", name)
