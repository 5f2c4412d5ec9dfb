"""The cache before the model: what is known is not embedded, what is new is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.inference.runner import EmbedOutcome
from embedfleet.storage import embedding_cache
from embedfleet.storage.embedding_cache import CachedVector, CacheUse


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """What the cache knew of a task's wanted chunks; `hashes`: the key of each, in order."""

    collection_id: int
    document_id: str
    hashes: Sequence[bytes]
    hits: Mapping[bytes, CachedVector]

    def vectors(self) -> list[NDArray[np.float32] | None]:
        """The known vector of each wanted chunk."""
        return [self.hits[key].array() if key in self.hits else None for key in self.hashes]

    def use(self, outcome: EmbedOutcome) -> CacheUse:
        """What to record of the wanted chunks' outcome."""
        fresh = {
            key: outcome.vectors[row].astype("<f4", copy=False).tobytes()
            for row, key in enumerate(self.hashes)
            if key not in self.hits and row not in outcome.failed
        }
        return CacheUse(self.collection_id, self.document_id, self.hits, fresh)


def look_up(
    conn: Connection, generation_id: int, document_id: str, hashes: Sequence[bytes]
) -> CacheLookup | None:
    """Ask the cache for chunks of a document's version; None if that is gone."""
    collection_id = embedding_cache.collection_of(conn, generation_id)
    if collection_id is None:
        return None
    hits = embedding_cache.look_up(conn, collection_id, hashes)
    return CacheLookup(collection_id, document_id, hashes, hits)
