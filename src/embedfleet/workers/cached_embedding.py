"""Asks the embedding cache before the model runs, and says which new vectors the cache should keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.inference.runner import EmbedOutcome
from embedfleet.records import embedding_cache
from embedfleet.records.embedding_cache import CachedVector, CacheKey, CacheUse


@dataclass(frozen=True, slots=True)
class CacheQuestion:
    """Asks for the wanted chunks of one task. `hashes` holds the cache key of each chunk, in order."""

    generation_id: int
    document_id: str
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """The answer to a `CacheQuestion`. `hits` holds the cached vectors by cache key."""

    collection_id: int
    document_id: str
    hashes: Sequence[bytes]
    hits: Mapping[bytes, CachedVector]

    @property
    def found(self) -> int:
        """The number of wanted chunks whose vector the cache has."""
        return sum(key in self.hits for key in self.hashes)

    def vectors(self) -> list[NDArray[np.float32] | None]:
        """Return the vector of each wanted chunk, in order; None for a chunk that the cache does not have."""
        return [self.hits[key].array() if key in self.hits else None for key in self.hashes]

    def use(self, outcome: EmbedOutcome) -> CacheUse:
        """Return what to record in the cache when the wanted chunks have this outcome."""
        fresh = {
            key: outcome.vectors[row].astype("<f4", copy=False).tobytes()
            for row, key in enumerate(self.hashes)
            if key not in self.hits and row not in outcome.failed
        }
        return CacheUse(self.collection_id, self.document_id, self.hits, fresh)


def look_up(conn: Connection, questions: Sequence[CacheQuestion]) -> list[CacheLookup | None]:
    """Answer all questions, with one query. The answer is None if the generation is gone."""
    collections = embedding_cache.collections_of(conn, (question.generation_id for question in questions))
    found = embedding_cache.look_up(
        conn,
        (
            (collections[question.generation_id], content_hash)
            for question in questions
            if question.generation_id in collections
            for content_hash in question.hashes
        ),
    )
    return [_answer(question, collections.get(question.generation_id), found) for question in questions]


def _answer(
    question: CacheQuestion, collection_id: int | None, found: Mapping[CacheKey, CachedVector]
) -> CacheLookup | None:
    if collection_id is None:
        return None
    hits = {key: found[collection_id, key] for key in question.hashes if (collection_id, key) in found}
    return CacheLookup(collection_id, question.document_id, question.hashes, hits)
