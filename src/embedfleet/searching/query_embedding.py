"""Embeds the query of a search with the model of the collection that is searched."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest, ModelError, SpaceMismatch
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.records.collections import Collection
from embedfleet.tokenising import tokenised, unknown_share


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """The vector of a query, float32 (dim,), and the share of its characters that the model does not know."""

    vector: NDArray[np.float32]
    unknown_share: float


class QueryEmbedding:
    """Embeds queries, in the role of a query where the model tells queries from passages."""

    def __init__(self, embedder: TextEmbedder, *, longest_wait_seconds: float | None = None) -> None:
        """`longest_wait_seconds`: the longest wait for a vector. None: as long as it takes."""
        self._embedder = embedder
        self._longest_wait_seconds = longest_wait_seconds

    async def embed(self, tenant: str, query: str, collection: Collection) -> EmbeddedQuery:
        """Embed the query for a search of the collection.

        Raises InvalidRequest if the query is too long for the model or makes no token, SpaceMismatch if the
        model of this name is another one by now, UnknownModel, ModelError, and Transient if no vector comes
        in time.
        """
        info = await self._embedder.info(collection.model)
        if info.space != collection.space:
            raise SpaceMismatch(
                f"the documents were embedded by another `{collection.model}` (space {collection.space}, now "
                f"{info.space}): restore that model, or ingest the documents again"
            )
        batch = await asyncio.to_thread(tokenised, [query], info, role="query")
        if batch.lengths[0] > info.max_tokens:
            raise InvalidRequest(
                f"the query has {batch.lengths[0]} tokens, model `{info.name}` takes {info.max_tokens}: "
                "shorten it"
            )
        if not batch.lengths[0]:
            raise InvalidRequest(
                f"model `{info.name}` makes no token of the query: say what to look for in words"
            )
        embedded = await self._embedder.embed(
            info, batch, tenant=tenant, timeout_seconds=self._longest_wait_seconds
        )
        if embedded.failed:
            raise ModelError(f"the query could not be embedded: {embedded.failed[0]}")
        return EmbeddedQuery(embedded.vectors[0], await asyncio.to_thread(unknown_share, query, info))
