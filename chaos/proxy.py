"""A network that can fail: a TCP proxy on loopback before a service."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PIECE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST, what is on its way is dropped."""

Address = tuple[str, int] | Path
"""Host and port, or a unix socket."""


class TcpProxy:
    """Passes bytes on, until told otherwise. Use it in an `async with`; it belongs to one event loop."""

    def __init__(self, backend: Address) -> None:
        self._backend = backend
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._delay_seconds = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """Of clients, that are open now."""
        return len(self._tasks)

    # --- what can happen to a network ---

    def cut(self) -> None:
        """Every connection is reset now, and every new one at once, until `heal`."""
        self._refusing = True
        for writer in list(self._writers):
            _reset(writer)

    def blackhole(self) -> None:
        """Connections stay and new ones are taken, but nothing passes any more, until `heal`: what is sent
        meanwhile arrives then, as TCP repeats it."""
        self._flowing.clear()

    def delay(self, seconds: float) -> None:
        """Each piece waits so long, in either direction."""
        self._delay_seconds = seconds

    def heal(self) -> None:
        self._refusing = False
        self._delay_seconds = 0.0
        self._flowing.set()

    # --- passing on ---

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        await self._flowing.wait()
        back_reader, back_writer = await self._connect()
        both = {writer, back_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, back_writer))
                ways.create_task(self._pass(back_reader, writer))
        except* OSError:
            pass
        finally:
            self._writers -= both
            for one in both:
                _reset(one) if self._refusing else one.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._backend, Path):
            return await asyncio.open_unix_connection(self._backend)
        return await asyncio.open_connection(*self._backend)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._flowing.wait()
            writer.write(piece)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
