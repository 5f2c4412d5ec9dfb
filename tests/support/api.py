"""A real HTTP server around a running system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from embedfleet.api.app import create_app
from embedfleet.api.opening import parts_of_owner
from embedfleet.api.parts import ApiParts
from embedfleet.api.server import ApiServer
from embedfleet.settings import Settings
from support.hangs import HANG_SECONDS
from support.system import Running, running


@dataclass(frozen=True, slots=True)
class Served:
    """A system with workers at work, its API on `url`, and a client without an API key."""

    running: Running
    parts: ApiParts
    url: str
    client: httpx.AsyncClient
    stop: asyncio.Event
    """Ends the server. The workers go on."""

    async def get(self, path: str, **more: Any) -> Any:
        """Return the JSON of a path that answers 200."""
        return _json(await self.client.get(path, **more), 200)

    async def post(self, path: str, json: Any = None, *, status: int = 200, **more: Any) -> Any:
        """Return the JSON of the answer, which has this status."""
        return _json(await self.client.post(path, json=json, **more), status)


def _json(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, (response.status_code, response.text)
    return response.json()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    """Serve the API of a running system on a free port while the block runs."""
    async with running(settings) as system:
        parts = parts_of_owner(system.system)
        async with (
            serving_parts(parts) as (url, stop),
            httpx.AsyncClient(base_url=url, timeout=HANG_SECONDS) as client,
        ):
            yield Served(system, parts, url, client, stop)


@asynccontextmanager
async def serving_parts(parts: ApiParts) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Serve the API over these parts. Yields its address, and the event that ends it."""
    stop = asyncio.Event()
    server = ApiServer(create_app(parts), host="127.0.0.1", port=0, stopping=parts.stopping, drain_seconds=5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(stop))
        try:
            yield f"http://127.0.0.1:{server.port}", stop
        finally:
            stop.set()
