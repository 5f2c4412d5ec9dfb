"""Embedding with the cache before the model: what is known is not embedded, what is new is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.runner import EmbedOutcome, ModelRunner, Unfinished
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

    def use(self, vectors: NDArray[np.float32], failed: Collection[int]) -> CacheUse:
        """What to record; `vectors` (n_wanted, dim), of which the rows `failed` are none."""
        fresh = {
            key: vectors[row].astype("<f4", copy=False).tobytes()
            for row, key in enumerate(self.hashes)
            if key not in self.hits and row not in failed
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


def missing(known: Sequence[NDArray[np.float32] | None]) -> NDArray[np.int64]:
    """The positions that only a model can tell."""
    return np.array([i for i, vector in enumerate(known) if vector is None], dtype=np.int64)


async def embed_missing(
    runner: ModelRunner, batch: TokenBatch, known: Sequence[NDArray[np.float32] | None]
) -> EmbedOutcome:
    """As `runner.embed(batch)`, with the model asked only for what is not known."""
    positions = missing(known)
    if not len(positions):
        return _completed(
            known, positions, EmbedOutcome(np.empty((0, runner.info.dim), dtype=np.float32), {})
        )
    try:
        return _completed(known, positions, await runner.embed(batch.take(positions)))
    except Unfinished as exc:
        raise Unfinished(exc, _completed(known, positions, exc.outcome)) from exc


def _completed(
    known: Sequence[NDArray[np.float32] | None], positions: NDArray[np.int64], outcome: EmbedOutcome
) -> EmbedOutcome:
    """What is known, with the model's outcome at these positions."""
    vectors = np.zeros((len(known), outcome.vectors.shape[1]), dtype=np.float32)
    for row, vector in enumerate(known):
        if vector is not None:
            vectors[row] = vector
    vectors[positions] = outcome.vectors
    return EmbedOutcome(vectors, {int(positions[row]): reason for row, reason in outcome.failed.items()})


def uses(
    lookups: Iterable[tuple[CacheLookup | None, int]], outcome: EmbedOutcome
) -> Iterable[CacheUse | None]:
    """For each task, of so many wanted chunks that follow one another in the outcome, what to record."""
    start = 0
    for lookup, count in lookups:
        failed = {row - start for row in outcome.failed if start <= row < start + count}
        yield None if lookup is None else lookup.use(outcome.vectors[start : start + count], failed)
        start += count
