"""What the parser's parent and child say to each other: length-prefixed msgpack, never pickle.

One Request goes down; up come Accepted, any number of Text, and one Done or Refused.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import BinaryIO

import msgpack

from embedfleet.framing import framed, read_frame
from embedfleet.parsing.formats import ContentType, Format

MAX_REPLY_BYTES = 1 << 23
"""The parent refuses longer messages: the child may be in the hands of the file it reads."""

TEXT_CHARS = 1 << 18
"""A Text holds up to about this many characters, well below MAX_REPLY_BYTES in UTF-8."""

EXIT_OUT_OF_MEMORY = 3
"""The child's exit status after an allocation failed: nothing could be said any more."""


@dataclass(frozen=True, slots=True)
class Request:
    """Read the file at `path` (as the system spells it), or these bytes. `form` None: find out."""

    form: Format | None
    path: bytes | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request has arrived, the file is not touched yet: a child lost before may be blamed for nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the document."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The document was all sent."""

    content_type: ContentType
    title: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The file cannot be read; drop what was sent of it. `reason` follows the file's name in a message."""

    reason: str


Reply = Accepted | Text | Done | Refused
_KINDS = {kind.__name__: kind for kind in (Request, Accepted, Text, Done, Refused)}


def encode(message: Request | Reply) -> bytes:
    """The message with its length before it."""
    body: bytes = msgpack.packb([type(message).__name__, *astuple(message)])
    return framed(body)


def decode(body: bytes) -> Request | Reply:
    """Inverse of `encode`, without the length. Raises ValueError or TypeError for anything else."""
    name, *fields = msgpack.unpackb(body, use_list=False)
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"no such message: {name!r}")
    return kind(*fields)


def read(stream: BinaryIO) -> Request | Reply | None:
    """The next message of a pipe; None at its end."""
    body = read_frame(stream)
    return None if body is None else decode(body)
