"""Frames the messages on a pipe: each message has its length before it."""

from __future__ import annotations

import os
import struct
import sys
from typing import IO, TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import asyncio

LENGTH = struct.Struct(">Q")
"""The header of each message: the number of bytes that follow."""


def framed(body: bytes) -> bytes:
    """Return the message with its length before it."""
    return LENGTH.pack(len(body)) + body


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read the next message. Return None at the end of the pipe, even if it ends inside a message."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    body = stream.read(length)
    return body if len(body) == length else None


async def receive_frame(reader: asyncio.StreamReader, *, max_bytes: int) -> bytes | None:
    """Read the next message. Return None at the end of the pipe, and for a length above `max_bytes`.

    The other side never writes such a length, and the wait for that many bytes would last for ever.
    """
    import asyncio  # not above: a child that blocks on its pipes needs none of it

    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return await reader.readexactly(length) if length <= max_bytes else None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def parent_output() -> BinaryIO:
    """Return the pipe to the parent, for messages alone.

    From now on, prints to standard output go to standard error, so the output of libraries mixes with none.
    """
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb", buffering=0)


async def parent_input() -> asyncio.StreamReader:
    """Return a reader of standard input, which is the pipe from the parent."""
    import asyncio

    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader
