"""Asks one space of a tenant a question, as a search would, and takes the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from embedfleet.document_filter import PassageFilter
from embedfleet.evaluation.questions import Passage
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.records.collections import Collection
from embedfleet.searching.nearest_passages import NearestPassages
from embedfleet.searching.query_embedding import QueryEmbedding
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore


@dataclass(frozen=True, slots=True)
class SpaceAnswer:
    """The passages that a space gave, nearest first, and how long the search took."""

    passages: Sequence[Passage]
    seconds: float


class SpaceAsking:
    """Asks in the process that owns the vector store and the models."""

    def __init__(
        self, database: Database, store: VectorStore, embedder: TextEmbedder, *, exact_scan_rows: int
    ) -> None:
        self._passages = NearestPassages(database, store, exact_scan_rows=exact_scan_rows)
        self._queries = QueryEmbedding(embedder)

    async def ask(self, collection: Collection, text: str, *, most: int) -> SpaceAnswer:
        """Return the `most` nearest passages. Raises as `QueryEmbedding.embed` does."""
        begun = perf_counter()
        query = await self._queries.embed(collection.tenant, text, collection)
        found = await self._passages.find(collection, query.vector, PassageFilter(), most=most)
        seconds = perf_counter() - begun
        return SpaceAnswer([Passage(hit.media_id, hit.start, hit.end) for hit in found.hits], seconds)
