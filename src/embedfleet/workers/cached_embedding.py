"""The cache before the model: what is known is not embedded, what is new is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.inference.runner import EmbedOutcome
from embedfleet.records import embedding_cache
from embedfleet.records.embedding_cache import CachedVector, CacheUse


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


@dataclass(frozen=True, slots=True)
class Question:
    """Which chunks a task wants, of a document's version; `hashes`: the key of each, in order."""

    generation_id: int
    document_id: str
    hashes: tuple[bytes, ...]


def look_up(conn: Connection, asked: Sequence[Question]) -> list[CacheLookup | None]:
    """Ask the cache for the chunks of several tasks, each collection once; None where the version is gone."""
    collections = embedding_cache.collections_of(conn, (one.generation_id for one in asked))
    wanted: dict[int, list[bytes]] = {}
    for one in asked:
        if one.generation_id in collections:
            wanted.setdefault(collections[one.generation_id], []).extend(one.hashes)
    found = {
        collection_id: embedding_cache.look_up(conn, collection_id, hashes)
        for collection_id, hashes in wanted.items()
    }
    return [_answer(one, collections.get(one.generation_id), found) for one in asked]


def _answer(
    question: Question, collection_id: int | None, found: Mapping[int, Mapping[bytes, CachedVector]]
) -> CacheLookup | None:
    if collection_id is None:
        return None
    known = found[collection_id]
    hits = {key: known[key] for key in question.hashes if key in known}
    return CacheLookup(collection_id, question.document_id, question.hashes, hits)
