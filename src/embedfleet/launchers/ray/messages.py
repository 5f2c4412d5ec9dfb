"""The messages between an orchestrator and its Ray driver: msgpack frames over two pipes.

The orchestrator sends one `Connect`, then a `Place` and `Tell`s for each worker. The driver answers with the
nodes of the cluster, and with what its workers say. The end of a pipe tells either side that the other is
gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, get_args

import msgpack

from embedfleet.framing import framed, receive_frame

# As for the pipe of a worker process: far more than a snapshot of all metrics takes.
_MAX_MESSAGE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Connect:
    """Tells the driver which cluster to join. `address` is HOST:PORT of its head, or `auto`."""

    address: str
    namespace: str
    require_token: bool
    parent_pid: int


@dataclass(frozen=True, slots=True)
class Place:
    """Asks for an actor that runs a worker.

    `worker` is unique among all of this driver, `name` is what Ray's own tools show. `order` is a packed
    `channel.Order`, with the secrets: the driver sends it to the actor and to no other place. `amounts` are
    the resources by Ray's names, memory in bytes.
    """

    worker: int
    name: str
    order: bytes
    amounts: Mapping[str, float]
    labels: Mapping[str, str]


class Request(StrEnum):
    """What an orchestrator asks of a worker. At `KILL` the driver says its end at once."""

    DRAIN = "drain"
    ABORT = "abort"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Tell:
    """Passes a request on to one worker. A worker that no node has taken yet ends at each of them."""

    worker: int
    request: Request


@dataclass(frozen=True, slots=True)
class Node:
    """A live node of the cluster: its name, what it has in all (`amounts`, memory in bytes), its labels."""

    name: str
    amounts: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of the cluster: sent once the driver has joined it, and when they have changed.

    The head answers, as at each `HeadAnswers`.
    """

    nodes: Sequence[Node]


@dataclass(frozen=True, slots=True)
class HeadAnswers:
    """The head of the cluster answers, and its nodes are those told last. It shows that the driver lives."""


@dataclass(frozen=True, slots=True)
class HeadSilent:
    """The head of the cluster has not answered for `seconds`. Workers that run go on; none can start."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Started:
    """A node has taken the worker. `place` names the node and the process there, for logs."""

    worker: int
    place: str


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    """A packed `channel.Report` or `channel.Failure` of a worker."""

    worker: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The actor of the worker is gone. `failure` says why; it is None after an end in good order."""

    worker: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The last message of a driver that cannot join the cluster.

    `mistaken`: the settings are wrong, so another try would fail too.
    """

    reason: str
    mistaken: bool


DriverMessage: TypeAlias = (
    Connect | Place | Tell | Nodes | HeadAnswers | HeadSilent | Started | WorkerMessage | Ended | Refused
)

_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(DriverMessage)}


def pack(message: DriverMessage) -> bytes:
    """Return the message as one frame."""
    return framed(msgpack.packb([type(message).__name__, asdict(message)], use_bin_type=True))


async def receive(reader: asyncio.StreamReader) -> DriverMessage | None:
    """Return the next message; None if the other side is gone, or sends what is no message."""
    frame = await receive_frame(reader, max_bytes=_MAX_MESSAGE_BYTES)
    if frame is None:
        return None
    try:
        kind, body = msgpack.unpackb(frame, raw=False)
        return _message(_KINDS[kind], body)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None


def _message(kind: type[Any], body: Any) -> DriverMessage:
    if kind is Nodes:
        return Nodes(tuple(Node(**node) for node in body["nodes"]))
    if kind is Tell:
        body["request"] = Request(body["request"])
    made: DriverMessage = kind(**body)
    return made
