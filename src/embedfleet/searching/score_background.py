"""Keeps the backgrounds of a tenant's spaces, by which the scores of several spaces compare.

A search makes them when it needs them, and SQL keeps them for the next one. `routing.fusion` says what they
are, `routing.made_up_questions` which questions they are measured with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import StoreMoved, Transient
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.records import passages, score_backgrounds, segments
from embedfleet.records.collections import Collection
from embedfleet.records.passages import SampledPassage
from embedfleet.records.score_backgrounds import KeptBackground
from embedfleet.routing.fusion import LEAST_PAIRS, Background
from embedfleet.routing.made_up_questions import (
    GENERAL,
    PASSAGES_OF_A_SPACE,
    QUESTIONS_OF_A_SPACE,
    question_of,
)
from embedfleet.sql.database import Database
from embedfleet.tokenising import cut, tokenised
from embedfleet.vectors.port import VectorStore

# A background is made again when a space has this many times as many documents as it had, or as few.
_GROWTH = 2


class ScoreBackgrounds:
    """The backgrounds of spaces. Its process owns the vector store, or reads it."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        embedder: TextEmbedder,
        *,
        clock: Clock | None = None,
        embedding_seconds: float | None = None,
    ) -> None:
        """`embedding_seconds`: the longest wait for the vectors of questions. None: as long as it takes."""
        self._database = database
        self._store = store
        self._embedder = embedder
        self._clock = clock or SystemClock()
        self._embedding_seconds = embedding_seconds
        self._one_at_a_time = asyncio.Lock()

    async def of(
        self,
        tenant: str,
        space: Collection,
        spaces: Sequence[Collection],
        documents: Mapping[int, int],
        but_in: Mapping[Collection, Sequence[Collection]],
    ) -> Background:
        """Return the background of this space, which is one of the tenant's `spaces`.

        `documents` counts the documents that readers see in each, by collection id. Of a space in `but_in`,
        documents that the collections there have too do not count: no search sees them. Raises Transient if
        the vectors of the space are being removed, and what the embedder raises for its model.
        """
        there = documents[space.collection_id]
        found = await self._kept(space, there)
        if found is None:
            # Searches that come together wait for one of them to make it.
            async with self._one_at_a_time:
                found = await self._kept(space, there)
                if found is None:
                    found = await self._make(tenant, space, spaces, but_in)
                    await self._keep(space, KeptBackground(found, there))
        return found

    async def _kept(self, space: Collection, documents: int) -> Background | None:
        kept = await self._database.read(partial(score_backgrounds.get, collection_id=space.collection_id))
        if kept is None or not kept.documents / _GROWTH <= documents <= kept.documents * _GROWTH:
            return None
        return kept.background

    async def _keep(self, space: Collection, kept: KeptBackground) -> None:
        now = self._clock.now()
        await self._database.write(lambda conn: score_backgrounds.put(conn, space.collection_id, kept, now))

    async def _make(
        self,
        tenant: str,
        space: Collection,
        spaces: Sequence[Collection],
        but_in: Mapping[Collection, Sequence[Collection]],
    ) -> Background:
        """Compare a sample of the space with questions from the other spaces."""

        def look(conn: Connection) -> tuple[list[SampledPassage], list[str]]:
            own = _sample(conn, space, PASSAGES_OF_A_SPACE, but_in)
            others = [one for one in spaces if one.collection_id != space.collection_id]
            return own, [text for other in others for text in _texts_of_sample(conn, other, but_in)]

        own, foreign = await self._database.read(look)
        vectors = await self._vectors(space, [one.chunk_id for one in own])
        questions = [question for text in foreign if (question := question_of(text))]
        asked = await self._embed(tenant, space.model, [*questions, *GENERAL])
        cosines = (_unit(asked) @ _unit(vectors).T).ravel()
        if len(cosines) < LEAST_PAIRS:
            raise Transient(f"vectors of model `{space.model}` are being removed: search again")
        return Background.of(cosines)

    async def _vectors(self, space: Collection, ids: Sequence[str]) -> NDArray[np.float32]:
        while True:
            try:
                _, vectors = await self._store.vectors(space, ids)
                return vectors
            except StoreMoved:
                await self._store.follow()

    async def _embed(self, tenant: str, model: str, questions: Sequence[str]) -> NDArray[np.float32]:
        """Embed the questions as queries: float32 (n, dim). Those that the model cannot embed are missing."""
        info = await self._embedder.info(model)
        lengths = (await asyncio.to_thread(tokenised, questions, info, role="query")).lengths
        known = [one for one, length in zip(questions, lengths.tolist(), strict=True) if length]
        batch = cut(await asyncio.to_thread(tokenised, known, info, role="query"), info)
        embedded = await self._embedder.embed(
            info, batch, tenant=tenant, timeout_seconds=self._embedding_seconds
        )
        kept = [place for place in range(len(known)) if place not in embedded.failed]
        vectors: NDArray[np.float32] = embedded.vectors[kept]
        return vectors


def _sample(
    conn: Connection, space: Collection, most: int, but_in: Mapping[Collection, Sequence[Collection]]
) -> list[SampledPassage]:
    left_out = [one.collection_id for one in but_in.get(space, ())]
    return passages.sample(conn, space.tenant, space.collection_id, most, but_in=left_out)


def _texts_of_sample(
    conn: Connection, space: Collection, but_in: Mapping[Collection, Sequence[Collection]]
) -> list[str]:
    some = _sample(conn, space, QUESTIONS_OF_A_SPACE, but_in)
    spans = [(one.generation_id, [(one.start, one.end)]) for one in some]
    return [texts[0] for texts in segments.texts_of(conn, spans) if texts is not None]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 (n, dim): the vectors with length 1."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit: NDArray[np.float32] = vectors / lengths
    return unit
