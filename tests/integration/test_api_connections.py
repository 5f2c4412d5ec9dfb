"""Clients that send heads without end, or never finish them, are told so and lose their connection."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from embedfleet.api.connections import LimitedConnection
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings


async def _answer(served: Served, sent: bytes) -> bytes:
    """Send these bytes, and return the first line of the answer."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(HANG_SECONDS):
        answer = await reader.readline()
    writer.close()
    return answer


async def test_heads_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(make_settings(tmp_path)) as served:
        start = b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n"
        many = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
        one = b"X-Long: " + b"y" * LimitedConnection.most_head_bytes
        for flood in (many, one):
            assert (await _answer(served, start + flood)).startswith(b"HTTP/1.1 431 ")
        # A large body is no large head.
        body = b"y" * (2 * LimitedConnection.most_head_bytes)
        post = b"POST /v1/me HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        assert (await _answer(served, post % len(body) + body)).startswith(b"HTTP/1.1 405 ")
        monkeypatch.setattr(LimitedConnection, "head_seconds", 0.01)
        assert (await _answer(served, start)).startswith(b"HTTP/1.1 408 ")
        assert (await _answer(served, b"")).startswith(b"HTTP/1.1 408 ")


async def test_an_answer_waits_for_no_acknowledgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each answer on a connection that is kept takes 40 ms."""
    without_delay: list[int] = []
    connect = LimitedConnection.connection_made

    def noting(self: LimitedConnection, transport: asyncio.Transport) -> None:
        connection = transport.get_extra_info("socket")
        without_delay.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        connect(self, transport)

    monkeypatch.setattr(LimitedConnection, "connection_made", noting)
    async with serving(make_settings(tmp_path)) as served:
        await served.get("/v1/me")
    assert without_delay
    assert all(without_delay)
