"""Reads what a server streams: bytes to lines, and lines to server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass


class _Splitter:
    r"""Splits bytes at `\n` only. A text in JSON may have other line ends, such as U+2028, as they are."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, piece: bytes) -> list[str]:
        """Return the lines that the piece ends."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [_decoded(line) for line in lines]

    def end(self) -> list[str]:
        """Return what is behind the last line end."""
        return [_decoded(self._rest)] if self._rest else []


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", errors="replace")


def lines_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a stream of UTF-8, without their ends."""
    splitter = _Splitter()
    for piece in pieces:
        yield from splitter.take(piece)
    yield from splitter.end()


async def lines_coming(pieces: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Yield the lines of a stream of UTF-8 as they come, without their ends."""
    splitter = _Splitter()
    async for piece in pieces:
        for line in splitter.take(piece):
            yield line
    for line in splitter.end():
        yield line


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """A server-sent event. `last_id` is the id of the last event that had one; empty before that."""

    name: str
    data: str
    last_id: str


class EventReader:
    """Makes events of the lines of `text/event-stream`. `last_id` is where to resume after the last event."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._name = ""
        self._data: list[str] = []

    def take(self, line: str) -> ServerEvent | None:
        """Return the event that this line ends; None for any other line. A comment is a heartbeat."""
        if not line:
            return self._ended()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
        return None

    def _ended(self) -> ServerEvent | None:
        name, data = self._name or "message", "\n".join(self._data)
        self._name, self._data = "", []
        return ServerEvent(name, data, self.last_id) if data else None
