"""Lines out of a stream of bytes, with no more than one of them in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank. `number` counts all lines from 1; `text` is None if it is too long."""

    number: int
    text: bytes | None


async def lines_of(stream: AsyncIterator[bytes], *, most_bytes: int) -> AsyncGenerator[Line, None]:
    """Yield the lines of the stream. The rest of a line that is too long is read and dropped."""
    number, kept, too_long = 1, bytearray(), False
    async for data in stream:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            too_long = too_long or len(kept) + end - start > most_bytes
            if too_long:
                yield Line(number, None)
            elif text := (bytes(kept) + data[start:end]).strip():
                yield Line(number, text)
            number, too_long, start = number + 1, False, end + 1
            kept.clear()
        too_long = too_long or len(kept) + len(data) - start > most_bytes
        if too_long:
            kept.clear()
        else:
            kept += data[start:]
    if too_long:
        yield Line(number, None)
    elif text := bytes(kept).strip():
        yield Line(number, text)
