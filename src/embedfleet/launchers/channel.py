"""What an orchestrator and a worker process say to each other: length-prefixed msgpack over two pipes.

Down go one `Order`, then commands. Up come reports. The end of the stream tells either side that the other
is gone. Nothing is ever unpickled, and what libraries print cannot get in between: the worker keeps the pipe
to itself (see `worker_process`).
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import msgpack

from embedfleet.errors import EmbedfleetError, StorageFull, Transient
from embedfleet.metrics.merging import Counted
from embedfleet.queue_schemas import Stage

_LENGTH = struct.Struct("<I")
# A snapshot of all metrics is some tens of kilobytes; anything near this is not ours.
_LARGEST_FRAME_BYTES = 64 * 2**20


class Command(StrEnum):
    """What a running worker is told."""

    DRAIN = "drain"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker process is to be. `settings`: JSON with its secrets, which no command line may show."""

    stage: Stage
    name: str
    settings: str
    parent_pid: int


@dataclass(frozen=True, slots=True)
class Report:
    """How a worker process is doing. `trouble`: class and words; `counted`: everything since its start;
    `models`: those it has loaded."""

    ready: bool
    trouble: tuple[str, str] | None
    memory_bytes: int
    counted: list[Counted]
    models: tuple[str, ...] = ()


def told(trouble: EmbedfleetError | None) -> tuple[str, str] | None:
    """An error as it travels."""
    return None if trouble is None else (type(trouble).__name__, str(trouble))


def understood(trouble: tuple[str, str] | None) -> EmbedfleetError | None:
    """The error at the other end: a full disk is told apart, all else is Transient."""
    if trouble is None:
        return None
    kind, words = trouble
    return StorageFull(words) if kind == StorageFull.__name__ else Transient(words)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last words of a worker process that cannot go on."""

    reason: str


def pack(message: Order | Command | Report | Failure) -> bytes:
    """One frame."""
    body = message.value if isinstance(message, Command) else asdict(message)
    raw: bytes = msgpack.packb([type(message).__name__, body], use_bin_type=True)
    return _LENGTH.pack(len(raw)) + raw


async def receive(reader: asyncio.StreamReader) -> Order | Command | Report | Failure | None:
    """The next message; None when the other side is gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _LARGEST_FRAME_BYTES:
            return None
        kind, body = msgpack.unpackb(await reader.readexactly(length), raw=False)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _message(kind, body)


def _message(kind: str, body: Any) -> Order | Command | Report | Failure:
    match kind:
        case "Order":
            return Order(**body | {"stage": Stage(body["stage"])})
        case "Command":
            return Command(body)
        case "Report":
            counted = [(n, tuple((k, v) for k, v in labels), value) for n, labels, value in body["counted"]]
            trouble = body["trouble"] and tuple(body["trouble"])
            models = tuple(body["models"])
            return Report(**body | {"counted": counted, "trouble": trouble, "models": models})
        case "Failure":
            return Failure(**body)
    raise ValueError(f"no message of kind {kind!r}")
