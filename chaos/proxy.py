"""A network that can fail: a TCP proxy on loopback before a service."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Self

_PIECE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST, what is on its way is dropped."""

Address = tuple[str, int] | Path
"""Host and port, or a unix socket."""


class TcpProxy:
    """Passes bytes on while the block runs, until told otherwise.

    It lives on a thread and an event loop of its own, so that a waiting test does not hold up the network.
    Each method returns when its effect is there.
    """

    def __init__(self, backend: Address) -> None:
        self._backend = backend
        self._refusing = False
        self._delay_seconds = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    # --- what can happen to a network ---

    def cut(self) -> None:
        """Every connection is reset now, and every new one at once, until `heal`."""
        self._tell(self._cut())

    def blackhole(self) -> None:
        """Let no byte pass until `heal`; connections stay, and new ones are taken.

        What was sent in between arrives after `heal`, because TCP repeats it.
        """
        self._tell(self._stop_flow())

    def delay(self, seconds: float) -> None:
        """Each piece waits so long, in either direction."""
        self._delay_seconds = seconds

    def heal(self) -> None:
        """All passes again, for new connections and for those that are left."""
        self._tell(self._heal())

    async def _cut(self) -> None:
        self._refusing = True
        for writer in list(self._writers):
            _reset(writer)

    async def _stop_flow(self) -> None:
        self._flowing.clear()

    async def _heal(self) -> None:
        self._refusing = False
        self._delay_seconds = 0.0
        self._flowing.set()

    def _tell(self, what: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    # --- its life ---

    def __enter__(self) -> Self:
        listening: Future[int] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._live(listening),), name="proxy")
        self._thread.start()
        self.port = listening.result()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _live(self, listening: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._ending.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- passing on ---

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            await self._close(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        await self._flowing.wait()
        back_reader, back_writer = await self._connect()
        self._writers.add(back_writer)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, back_writer))
                ways.create_task(self._pass(back_reader, writer))
        except* OSError:
            _reset(writer)
        finally:
            await self._close(back_writer)

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        _reset(writer) if self._refusing else writer.close()
        with suppress(OSError):
            await writer.wait_closed()

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
