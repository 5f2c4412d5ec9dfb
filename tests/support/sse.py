"""Server-sent events as a client reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, or a comment, which has no data."""

    event: str | None
    data: Any
    id: str | None


@asynccontextmanager
async def frames(client: httpx.AsyncClient, path: str, **more: Any) -> AsyncIterator[AsyncIterator[Frame]]:
    """Yield the events of a stream that answers 200."""
    async with client.stream("GET", path, **more) as response:
        assert response.status_code == 200, (response.status_code, await response.aread())
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        yield _frames(response)


async def _frames(response: httpx.Response) -> AsyncIterator[Frame]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            data = json.loads(fields["data"]) if "data" in fields else None
            yield Frame(fields.get("event"), data, fields.get("id"))
            fields = {}
