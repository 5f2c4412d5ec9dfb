"""Reads the vectors of a shadow run through the HTTP API, beside a vector store that has another owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from embedfleet.client.calls.results import StoredChunk
from embedfleet.client.clients import AsyncClient
from embedfleet.vectors.port import CollectionKey

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ServedVectors:
    """The vectors of jobs, from their results. A `traffic.shadow_fleet.StoredVectors`.

    The API key of the client must be one that may act for every tenant.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def of(
        self, tenant: str, job_id: str, collection: CollectionKey, chunk_ids: Sequence[str]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return the vectors of these chunks, by id. Raises ServerUnavailable, AccessDenied, UnknownJob."""
        wanted = frozenset(chunk_ids)
        found: dict[str, NDArray[np.float32]] = {}
        async for one in self._client.of(tenant).results(job_id, vectors=True, with_text=False):
            if isinstance(one, StoredChunk) and one.vector is not None and one.info.chunk_id in wanted:
                found[one.info.chunk_id] = one.vector
        return found
