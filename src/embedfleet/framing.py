"""Messages one after the other on a pipe, each with its length before it."""

from __future__ import annotations

import asyncio
import struct
from typing import IO

LENGTH = struct.Struct(">Q")
"""Stands before each message: how many bytes of it follow."""


def framed(body: bytes) -> bytes:
    """The message with its length before it."""
    return LENGTH.pack(len(body)) + body


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next message. None at the end of the pipe, even if the end comes in the middle of a message."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    body = stream.read(length)
    return body if len(body) == length else None


async def receive_frame(reader: asyncio.StreamReader, *, max_bytes: int) -> bytes | None:
    """The next message, as `read_frame` reads it. None as well for a length above `max_bytes`: the other side
    did not write that, and to wait for that many bytes would be to wait for ever."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return await reader.readexactly(length) if length <= max_bytes else None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
