"""Messages one after the other on a pipe: each with its length before it."""

from __future__ import annotations

import struct
from typing import IO

LENGTH = struct.Struct(">Q")
"""Before each message: how many bytes of it follow."""


def framed(body: bytes) -> bytes:
    """The message with its length before it."""
    return LENGTH.pack(len(body)) + body


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next message; None at the end of the pipe, also in the middle of a message."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    body = stream.read(length)
    return body if len(body) == length else None
