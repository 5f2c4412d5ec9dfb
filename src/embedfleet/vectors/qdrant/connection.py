"""A connection to a Qdrant server, and what every call on it has in common."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from embedfleet.errors import ConfigError, VectorStoreUnavailable
from embedfleet.vectors.qdrant.errors import server_error
from embedfleet.vectors.server_address import ServerAddress

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, models

_OLDEST = (1, 17)
"""The first release that writes a point only if there is none, which makes a mark the first one's."""

_CONNECT_SECONDS = 5.0
"""A running server accepts a connection at once, so a short limit soon shows that a server is away."""

_CONNECTIONS = 8


class Connection:
    """The client, and the server's address for messages. After a server was away, it is used again."""

    def __init__(self, client: AsyncQdrantClient, url: str) -> None:
        """Create a connection that was not checked. Use `open` to get a checked one."""
        self.client = client
        self.url = url
        self._closed = False

    @classmethod
    async def open(cls, address: ServerAddress, *, timeout_seconds: float) -> Self:
        """Connect. A server that is silent for `timeout_seconds` counts as away.

        Raises VectorStoreUnavailable at once if no server answers. Raises ConfigError naming
        `vector_store.url` if the server is not Qdrant or is too old, `vector_store.token` if it refuses us.
        """
        connection = cls(_client(address, timeout_seconds), address.url)
        try:
            with connection.speaking(opening=True):
                _require_recent(await connection.client.info(), address.url)
                await connection.client.get_collections()  # unlike `info`, it needs the token
        except BaseException:
            await connection.close()
            raise
        return connection

    @contextmanager
    def speaking(self, *, opening: bool = False) -> Iterator[None]:
        """Raise embedfleet's errors in place of the client's."""
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store at {self.url} is closed")
        try:
            yield
        except Exception as exc:
            ours = server_error(exc, self.url, opening=opening)
            if ours is exc:
                raise
            raise ours from exc

    async def create_collection(
        self, name: str, vectors: models.VectorParams, hnsw: models.HnswConfigDiff | None = None
    ) -> None:
        """Create a Qdrant collection if there is none of this name."""
        from qdrant_client.http.exceptions import UnexpectedResponse

        if await self.client.collection_exists(name):
            return
        try:
            await self.client.create_collection(name, vectors, hnsw_config=hnsw)
        except UnexpectedResponse:
            if not await self.client.collection_exists(name):  # else another process has just made it
                raise

    def require_done(self, result: models.UpdateResult) -> None:
        """Raise VectorStoreUnavailable if the server has put a write into its queue and not done it yet."""
        from qdrant_client import models

        if result.status != models.UpdateStatus.COMPLETED:
            raise VectorStoreUnavailable(f"the vector store at {self.url} has not done a write in time")

    async def close(self) -> None:
        self._closed = True
        await self.client.close()


def _client(address: ServerAddress, timeout_seconds: float) -> AsyncQdrantClient:
    import httpx
    from qdrant_client import AsyncQdrantClient

    client = AsyncQdrantClient(
        url=address.url,
        port=None,  # else the client takes 6333 where the url has the port of its scheme
        headers=dict(address.headers),
        check_compatibility=False,  # it would warn on a thread of its own; `open` looks
        auth=address.login,
        limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        # Trust the certificates that this machine trusts. Use no proxy and no `.netrc` of its user.
        verify=ssl.create_default_context() if address.url.startswith("https:") else False,
        trust_env=False,
    )
    # The client takes one number for everything, but a server that is away is to be noticed at once.
    client.http.client._async_client.timeout = httpx.Timeout(
        timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)
    )
    return client


def _require_recent(server: models.VersionInfo, url: str) -> None:
    try:
        version = tuple(int(part) for part in server.version.split(".")[:2])
    except ValueError:  # a build that is no release
        return
    if "qdrant" not in server.title:
        raise ConfigError(f"vector_store.url: no Qdrant server answers at {url}")
    if version < _OLDEST:
        raise ConfigError(
            f"vector_store.url: Qdrant at {url} is of version {server.version}: upgrade it to "
            f"{'.'.join(map(str, _OLDEST))} or later"
        )
