"""The two clients. They have the same operations."""

from __future__ import annotations

from typing import Self

import httpx

from embedfleet import __version__
from embedfleet.client.operations import Operations
from embedfleet.client.patience import Patience
from embedfleet.client.server import Server
from embedfleet.client.transports import Awaiting, Blocking

# A server that is busy answers within some seconds. Operations that wait for something add their own time.
_TIMEOUT_SECONDS = 60.0
_HEADERS = {"User-Agent": f"embedfleet/{__version__}"}


class Client(Operations, Blocking):
    """A client of the HTTP API that blocks. Several threads may use one; close it at the end.

    `url` is the address of the server, such as `http://host:8080`. `tenant` is for whom an operator's key
    acts; another key has a tenant of its own. A request that the server is too busy for is sent again, as
    long as the `patience` lasts.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        patience: Patience | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        """Raises InvalidRequest if the address or the key cannot be one. It connects at the first request."""
        server = Server(url, api_key, tenant)
        http = httpx.Client(timeout=timeout_seconds, headers=_HEADERS)
        Blocking.__init__(self, http, server, patience or Patience())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class AsyncClient(Operations, Awaiting):
    """A client of the HTTP API for an event loop. Its arguments and operations are those of `Client`."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        patience: Patience | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        """Raises InvalidRequest if the address or the key cannot be one. It connects at the first request."""
        server = Server(url, api_key, tenant)
        http = httpx.AsyncClient(timeout=timeout_seconds, headers=_HEADERS)
        Awaiting.__init__(self, http, server, patience or Patience())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
