"""Finds the passages of a collection that are nearest to a vector, among those that readers may see.

The vector store also holds vectors of generations that are being built or removed, and its metadata may be
that of a moment ago. SQL says which passages are live and which of them a filter allows, so a reader sees the
old version of a document or the new one, never a mixture, and no filter loses a hit.

There are two ways. The index of the vector store gives the nearest rows, and those that are not allowed are
left out: that is quick, but an index is approximate. If a filter allows few passages, each of them is
compared with the query instead: that is exact. It also follows when the index did not give enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.document_filter import PassageFilter
from embedfleet.errors import StoreMoved
from embedfleet.paging import pages
from embedfleet.queue_schemas import PassageCopy, SearchHit
from embedfleet.records import chunks, passages, segments, store_fence
from embedfleet.records.collections import Collection
from embedfleet.records.passages import Passage
from embedfleet.sql.database import Database
from embedfleet.vectors.port import Hit, VectorStore

# A query asks the store for this many more rows than wanted: some may be of generations that are not live.
_SPARE_ROWS = 16
# If too few of the rows are allowed, the next query asks for this many times as many.
_WIDENING_FACTOR = 4
# A filter that is not compared exactly leaves rows out, so the first query is wider by this. A query of 100
# rows takes hardly longer than one of 21.
_WIDER_WITH_FILTER = 4
# The index is asked for this many rows at most. Without a filter the search ends there, though fewer texts
# were found than wanted: the others are copies.
_MOST_ROWS = 20_000
# Vectors that one call reads. Other calls of the store, such as those of writers, come in between.
_VECTORS_PER_CALL = 1_000
# Documents may be replaced while their vectors are read, and then all is read again. After this number of
# times the answer is what there is.
_MOST_SCANS = 3


@dataclass(frozen=True, slots=True)
class Nearest:
    """The hits, nearest first. `exact`: every allowed passage was compared with the query.

    `candidates` are the passages that were compared, or, if it is not exact, the rows that the index gave.
    `lost` counts passages that have a vector by SQL, but none in the store.
    """

    hits: Sequence[SearchHit]
    exact: bool
    candidates: int
    lost: int = 0


class NearestPassages:
    """Looks for passages in the process that owns the vector store."""

    def __init__(self, database: Database, store: VectorStore, *, exact_scan_rows: int) -> None:
        """With a filter that allows up to `exact_scan_rows` passages, each of them is compared."""
        self._database = database
        self._store = store
        self._exact_scan_rows = exact_scan_rows

    async def find(
        self,
        collection: Collection,
        vector: NDArray[np.float32],
        wanted: PassageFilter,
        *,
        most: int,
        but_in: Sequence[Collection] = (),
    ) -> Nearest:
        """Return the `most` nearest texts of live passages that the filter allows.

        Documents that readers see in one of the collections `but_in` too are left out: another search finds
        them.
        Passages of the same text are one hit. Without a filter there may be fewer hits if the 20,000 nearest
        passages are of fewer texts.
        """
        while True:
            try:
                return await self._find(collection, vector, wanted, most, but_in)
            except StoreMoved:
                await self._store.follow()

    async def _find(
        self,
        collection: Collection,
        vector: NDArray[np.float32],
        wanted: PassageFilter,
        most: int,
        but_in: Sequence[Collection],
    ) -> Nearest:
        left_out = [one.collection_id for one in but_in]
        part_id = self._store.part_id
        search = _Search(self._database, self._store, part_id, collection, vector, wanted, most, left_out)
        if not search.leaves_out:
            return await search.by_index(_SPARE_ROWS + most)
        few = await search.allowed(self._exact_scan_rows + 1)
        if len(few) <= self._exact_scan_rows:
            return await search.by_comparison(few)
        found = await search.by_index((_SPARE_ROWS + most) * _WIDER_WITH_FILTER)
        if len(found.hits) >= most:
            return found
        # The allowed passages are far from the query, or the index missed some.
        return await search.by_comparison(await search.allowed(None))


@dataclass(frozen=True, slots=True)
class _Search:
    database: Database
    store: VectorStore
    part_id: str | None
    collection: Collection
    vector: NDArray[np.float32]
    wanted: PassageFilter
    most: int
    but_in: Sequence[int] = ()

    @property
    def leaves_out(self) -> bool:
        """Whether any passage is left out, as far as it can be told."""
        return self.wanted.says_something or bool(self.but_in)

    async def allowed(self, limit: int | None) -> list[str]:
        """Return the ids of the allowed passages; with a limit, some of them."""
        return await self.database.read(
            partial(
                passages.allowed_ids,
                tenant=self.collection.tenant,
                collection_id=self.collection.collection_id,
                wanted=self.wanted,
                limit=limit,
                but_in=self.but_in,
            )
        )

    async def by_index(self, limit: int) -> Nearest:
        """Ask the index for `limit` rows, then for more until there are enough hits."""
        while True:
            near = await self.store.query(self.collection, self.vector, limit=limit)
            hits, _ = await self._look(near)
            if self._enough(hits, near) or len(near) < limit or limit >= _MOST_ROWS:
                return Nearest(hits, exact=False, candidates=len(near))
            limit = min(limit * _WIDENING_FACTOR, _MOST_ROWS)

    def _enough(self, hits: Sequence[SearchHit], near: Sequence[Hit]) -> bool:
        """Whether these are all hits that are wanted, and none is among the last of the rows.

        An index misses more rows the farther away they are. Without a filter the hits are the first rows. A
        filter may leave only the last ones, so then they must be in the first half.
        """
        if len(hits) < self.most:
            return False
        return not self.leaves_out or hits[-1].chunk_id in {hit.id for hit in near[: len(near) // 2]}

    async def by_comparison(self, ids: Sequence[str]) -> Nearest:
        """Compare these passages, all that are allowed, with the query.

        The result is as of the moment at which `ids` were read. If a document was replaced since, so that its
        vectors or texts are gone, everything is read again. After a few times the result is what there is,
        and is not called exact.
        """
        for _ in range(_MOST_SCANS):
            near, missing = await self._compared(ids)
            lost, replaced = await self.database.read(partial(self._why_missing, ids=missing))
            hits, all_there = await self._first_hits(near)
            found = Nearest(hits, exact=not lost, candidates=len(near), lost=lost)
            if all_there and not replaced:
                return found
            ids = await self.allowed(None)
        return replace(found, exact=False)

    async def _compared(self, ids: Sequence[str]) -> tuple[list[Hit], list[str]]:
        """Return the rows of these ids, nearest first, and the ids that have no row."""
        found: list[str] = []
        scores = [np.empty(0, dtype=np.float32)]
        for page in pages(ids, _VECTORS_PER_CALL):
            held, vectors = await self.store.vectors(self.collection, page)
            if held:
                found += held
                scores.append(_cosines(vectors, self.vector))
        missing = [] if len(found) == len(ids) else list(set(ids).difference(found))
        return await asyncio.to_thread(_ranked, found, np.concatenate(scores)), missing

    def _why_missing(self, conn: Connection, ids: Sequence[str]) -> tuple[int, bool]:
        """Return how many of these vectors the store has lost, and whether the passages of others are gone.

        The rest are passages that were given up, which never had a vector.
        """
        if not ids:
            return 0, False
        live = passages.live_passages(conn, self.collection.tenant, ids, self.wanted, but_in=self.but_in)
        return len(chunks.ids_stored(conn, list(live))), len(live) < len(ids)

    async def _first_hits(self, near: Sequence[Hit]) -> tuple[list[SearchHit], bool]:
        """Return the hits of the nearest rows, and whether all rows that were looked at are still allowed."""
        limit = self.most + _SPARE_ROWS
        while True:
            hits, live = await self._look(near[:limit])
            if live < len(near[:limit]) or len(hits) >= self.most or limit >= len(near):
                return hits, live == len(near[:limit])
            limit *= _WIDENING_FACTOR

    async def _look(self, near: Sequence[Hit]) -> tuple[list[SearchHit], int]:
        return await self.database.read(
            partial(
                _hits,
                part_id=self.part_id,
                tenant=self.collection.tenant,
                near=near,
                wanted=self.wanted,
                most=self.most,
                but_in=self.but_in,
            )
        )


def _cosines(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 (n,): the cosine of each of `vectors` (n, dim) with `vector` (dim,)."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    cosines: NDArray[np.float32] = (vectors @ vector) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return cosines


def _ranked(ids: Sequence[str], scores: NDArray[np.float32]) -> list[Hit]:
    order = np.argsort(-scores, kind="stable")
    return [Hit.from_distance(ids[place], 1.0 - float(scores[place])) for place in order]


def _hits(
    conn: Connection,
    part_id: str | None,
    tenant: str,
    near: Sequence[Hit],
    wanted: PassageFilter,
    most: int,
    but_in: Sequence[int],
) -> tuple[list[SearchHit], int]:
    """Return the passages of up to `most` different texts among these rows that are allowed, in order.

    Returns too how many of the rows are allowed: those that readers may see and that the filter takes.
    """
    # In the transaction that reads what is live: these rows are of a store that has all of it.
    store_fence.require_current(conn, part_id)
    live = passages.live_passages(conn, tenant, [hit.id for hit in near], wanted, but_in=but_in)
    found: dict[str, SearchHit] = {}
    lengths: set[int] = set()
    for page in pages([hit for hit in near if hit.id in live], most):
        # When there are enough, only a copy of one of them is of interest. It is as long as that one.
        new = [hit for hit in page if len(found) < most or _length(live[hit.id]) in lengths]
        for hit, text in zip(new, _texts(conn, [live[hit.id] for hit in new]), strict=True):
            if text is None:  # replaced by a newer generation since it was found
                continue
            passage = live[hit.id]
            if text in found:
                first = found[text]
                found[text] = first.model_copy(update={"copies": (*first.copies, _copy(passage))})
            elif len(found) < most:
                found[text] = _hit(hit, passage, text)
                lengths.add(_length(passage))
    return list(found.values()), len(live)


def _length(passage: Passage) -> int:
    return passage.chunk.end - passage.chunk.start


def _texts(conn: Connection, found: Sequence[Passage]) -> list[str | None]:
    spans = [(passage.generation_id, [(passage.chunk.start, passage.chunk.end)]) for passage in found]
    return [None if texts is None else texts[0] for texts in segments.texts_of(conn, spans)]


def _hit(hit: Hit, passage: Passage, text: str) -> SearchHit:
    chunk = passage.chunk
    return SearchHit(
        score=round(hit.score, 6),
        source=passage.source,
        media_id=passage.media_id,
        chunk_id=chunk.chunk_id,
        start=chunk.start,
        end=chunk.end,
        heading=chunk.heading,
        text=text,
        page=chunk.page,
        start_seconds=chunk.start_seconds,
        end_seconds=chunk.end_seconds,
        context=chunk.context,
        metadata=dict(passage.metadata),
    )


def _copy(passage: Passage) -> PassageCopy:
    chunk = passage.chunk
    return PassageCopy(
        source=passage.source,
        media_id=passage.media_id,
        chunk_id=chunk.chunk_id,
        start=chunk.start,
        end=chunk.end,
        heading=chunk.heading,
        page=chunk.page,
    )
