"""The network that fails does so in the ways it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic

import pytest
from chaos.proxy import TcpProxy

from support.hangs import HANG_SECONDS

SILENT_SECONDS = 0.1


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionResetError):
        while line := await reader.readline():
            writer.write(line)
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """Before a server that says every line again."""
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with TcpProxy((host, port)) as one:
            yield one
        await asyncio.gather(*served)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, proxy: TcpProxy) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    def say(self, text: bytes) -> None:
        self._writer.write(text + b"\n")

    async def hear(self, seconds: float = HANG_SECONDS) -> bytes:
        return (await asyncio.wait_for(self._reader.readline(), seconds)).strip()

    async def ask(self, text: bytes) -> bytes:
        self.say(text)
        return await self.hear()

    async def close(self) -> None:
        self._writer.transport.abort()
        with suppress(ConnectionResetError):
            await self._writer.wait_closed()


async def test_bytes_pass_in_both_directions(proxy: TcpProxy) -> None:
    client = await Client.of(proxy)
    assert await client.ask(b"hello") == b"hello"
    await client.close()


async def test_a_cut_resets_connections_and_refuses_new_ones_until_it_is_healed(proxy: TcpProxy) -> None:
    client = await Client.of(proxy)
    await client.ask(b"one")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.hear()
    with pytest.raises(ConnectionResetError):
        await connect_and_hear(proxy)
    proxy.heal()
    again = await Client.of(proxy)
    assert await again.ask(b"two") == b"two"
    for one in (client, again):
        await one.close()


async def connect_and_hear(proxy: TcpProxy) -> None:
    """The reset may come in the middle of connecting, too."""
    client = await Client.of(proxy)
    try:
        await client.hear()
    finally:
        await client.close()


async def test_in_a_black_hole_nothing_passes_and_what_was_sent_arrives_when_it_is_healed(
    proxy: TcpProxy,
) -> None:
    client = await Client.of(proxy)
    await client.ask(b"one")
    proxy.blackhole()
    late = await Client.of(proxy)
    for one in (client, late):
        one.say(b"two")
        with pytest.raises(TimeoutError):
            await one.hear(SILENT_SECONDS)
    proxy.heal()
    assert [await client.hear(), await late.hear()] == [b"two", b"two"]
    for one in (client, late):
        await one.close()


async def test_a_delay_holds_up_what_passes(proxy: TcpProxy) -> None:
    client = await Client.of(proxy)
    proxy.delay(4 * SILENT_SECONDS)
    said_at = monotonic()
    assert await client.ask(b"one") == b"one"
    assert monotonic() - said_at >= 4 * SILENT_SECONDS
    await client.close()
