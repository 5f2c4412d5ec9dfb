"""The messages between an orchestrator and a worker process: msgpack frames over two pipes.

The orchestrator sends one `Order`, then commands. The worker sends reports. The end of a pipe tells either
side that the other is gone. No message is pickled. The output of libraries cannot mix with the messages,
because the worker keeps its pipe to itself (see `worker_process`).
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import msgpack

from embedfleet.errors import EmbedfleetError, StorageFull, Transient
from embedfleet.framing import framed, receive_frame
from embedfleet.metrics.merging import Counted
from embedfleet.queue_schemas import Stage

# The largest message is a snapshot of all metrics, which takes some tens of kilobytes. So a frame above this
# limit is an error.
_MAX_MESSAGE_BYTES = 64 * 2**20


class Command(StrEnum):
    """A command of the orchestrator to a running worker."""

    DRAIN = "drain"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Order:
    """Tells a worker process which worker to run.

    `settings` is JSON, with the secrets. It comes through the pipe, because any user of the host can read a
    command line.
    """

    stage: Stage
    name: str
    settings: str
    parent_pid: int


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a worker process.

    `trouble` is a class name and a message (see `pack_trouble`). `memory_bytes` is the resident size of the
    process. `counted` holds all metrics since its start, and `models` the names of its loaded models.
    """

    ready: bool
    trouble: tuple[str, str] | None
    memory_bytes: int
    counted: list[Counted]
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The last message of a worker process that cannot go on."""

    reason: str


ChannelMessage = Order | Command | Report | Failure


def pack_trouble(trouble: EmbedfleetError | None) -> tuple[str, str] | None:
    """Return the class name and the message of an error, for a `Report`."""
    return None if trouble is None else (type(trouble).__name__, str(trouble))


def unpack_trouble(packed: tuple[str, str] | None) -> EmbedfleetError | None:
    """Return the error of a `Report`: StorageFull for a full disk, Transient for every other class."""
    if packed is None:
        return None
    class_name, message = packed
    return StorageFull(message) if class_name == StorageFull.__name__ else Transient(message)


def pack(message: ChannelMessage) -> bytes:
    """Return the message as one frame."""
    return framed(pack_body(message))


def pack_body(message: ChannelMessage) -> bytes:
    """Return the message without the frame, for a way that keeps messages apart by itself."""
    body = message.value if isinstance(message, Command) else asdict(message)
    return bytes(msgpack.packb([type(message).__name__, body], use_bin_type=True))


def unpack_body(packed: bytes) -> ChannelMessage:
    """Return the message that `pack_body` has packed. Raises ValueError if it is none."""
    try:
        kind, body = msgpack.unpackb(packed, raw=False)
        return _message(kind, body)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as exc:
        raise ValueError(f"no message: {exc!r}") from exc


async def receive(reader: asyncio.StreamReader) -> ChannelMessage | None:
    """Return the next message; None if the other side is gone, or sends what is no message."""
    frame = await receive_frame(reader, max_bytes=_MAX_MESSAGE_BYTES)
    if frame is None:
        return None
    try:
        return unpack_body(frame)
    except ValueError:
        return None


def _message(kind: str, body: Any) -> ChannelMessage:
    match kind:
        case "Order":
            return Order(**body | {"stage": Stage(body["stage"])})
        case "Command":
            return Command(body)
        case "Report":
            # msgpack turns tuples into lists, so they are turned back here.
            counted = [(n, tuple((k, v) for k, v in labels), value) for n, labels, value in body["counted"]]
            trouble = body["trouble"] and tuple(body["trouble"])
            models = tuple(body["models"])
            return Report(**body | {"counted": counted, "trouble": trouble, "models": models})
        case "Failure":
            return Failure(**body)
    raise ValueError(f"no message of kind {kind!r}")
