"""Serves the application by uvicorn, as a service of the process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import uvicorn
from fastapi import FastAPI

from embedfleet.api.connections import LimitedConnection
from embedfleet.api.limits import UnreadBodies
from embedfleet.errors import ConfigError

# Longer than the idle connections of the usual balancers (60 s): else one may send a request into a closing
# connection.
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048  # connections that wait to be accepted: uvicorn's own number


class ApiServer:
    """Listens from its making, and answers while `run` runs."""

    name: ClassVar = "HTTP API"

    def __init__(
        self, app: FastAPI, *, host: str, port: int, stopping: asyncio.Event, drain_seconds: float
    ) -> None:
        """Listen; port 0 means any free one. Raises ConfigError, naming the setting, if that fails.

        At the stop, `stopping` is set first, so that streams end; requests have `drain_seconds` to finish.
        """
        self._stopping = stopping
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                # Outside of all limits: one of them answers for itself, and all of them end what is read.
                UnreadBodies(app),
                http=LimitedConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, int(drain_seconds)),
            )
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set; then take no more connections, and finish the requests under way."""
        serving = asyncio.create_task(self._server.serve([self._socket]), name="uvicorn")
        stopped = asyncio.create_task(stop.wait(), name="stop of the HTTP API")
        try:
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            self._server.should_exit = True
            await serving
        finally:
            stopped.cancel()
            serving.cancel()
            self._socket.close()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the command has its own, and stops all in order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listening(host: str, port: int) -> socket.socket:
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as exc:
        raise ConfigError(
            f"http.port: cannot listen on {host} port {port} ({exc.strerror or exc}): choose another address "
            "or port"
        ) from exc
    # Connections inherit it. asyncio sets it only for sockets that name their protocol. Without it, the body
    # of an answer, which is sent after its head, waits 40 ms for the client's acknowledgement of the head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
