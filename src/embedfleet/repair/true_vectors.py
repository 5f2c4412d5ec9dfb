"""The vector that a chunk should have: from the embedding cache, or from the model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from embedfleet.errors import ModelError, SpaceMismatch, UnknownModel
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.records import embedding_cache
from embedfleet.records.collections import Collection
from embedfleet.records.embedding_cache import CacheUse
from embedfleet.repair.expected import Target
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.tables import documents
from embedfleet.tokenising import tokenised


class TrueVectors:
    """Takes vectors from the embedding cache and has the model embed the rest.

    `cached` and `embedded` count the vectors that each of them has provided.
    """

    def __init__(
        self, database: Database, catalogue: Catalogue, models: ModelPool, *, caching: bool, now: float
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._models = models
        self._caching = caching
        self._now = now
        self.embedded = 0
        self.cached = 0

    async def of(
        self, collection: Collection, targets: Sequence[Target], *, ask_cache: bool = True
    ) -> dict[str, NDArray[np.float32]]:
        """By chunk id: float32 (dim,). Chunks on which the model fails are left out.

        Without `ask_cache` the model embeds all of them. Raises ModelError, UnknownModel or SpaceMismatch
        if this process does not have the model that made the collection, ModelUnavailable if the model's
        server does not answer.
        """
        info = await self._model(collection)
        tokens = await asyncio.to_thread(tokenised, [target.embedded for target in targets], info)
        keys = embedding_cache.content_hashes(tokens.token_ids, tokens.lengths, tokens.texts)
        known: dict[str, NDArray[np.float32]] = {}
        if ask_cache and self._caching:
            wanted = [(collection.collection_id, key) for key in keys]
            found = await self._database.read(partial(embedding_cache.look_up, keys=wanted))
            known = {
                target.chunk_id: found[key].array()
                for target, key in zip(targets, wanted, strict=True)
                if key in found
            }
        self.cached += len(known)
        rest = [position for position, target in enumerate(targets) if target.chunk_id not in known]
        return known | await self._embed(collection, targets, keys, tokens, rest)

    async def _embed(
        self,
        collection: Collection,
        targets: Sequence[Target],
        keys: Sequence[bytes],
        tokens: TokenBatch,
        positions: Sequence[int],
    ) -> dict[str, NDArray[np.float32]]:
        if not positions:
            return {}
        async with self._models.using(collection.model) as runner:
            outcome = await runner.embed(tokens.take(np.array(positions, dtype=np.int64)))
        self.embedded += len(positions)
        good = [row for row in range(len(positions)) if row not in outcome.failed]
        if self._caching:
            fresh = {positions[row]: outcome.vectors[row].astype("<f4", copy=False).tobytes() for row in good}
            await self._database.write(
                lambda conn: self._add_to_cache(conn, collection, targets, keys, fresh)
            )
        return {targets[positions[row]].chunk_id: outcome.vectors[row] for row in good}

    def _add_to_cache(
        self,
        conn: Connection,
        collection: Collection,
        targets: Sequence[Target],
        keys: Sequence[bytes],
        fresh: dict[int, bytes],
    ) -> None:
        """Only for documents that still exist: deleting a document is what deletes its cache rows."""
        owners = {targets[position].document_id for position in fresh}
        document_lock.lock(conn, owners)  # no document may be deleted between the check and the insert
        vectors_of: dict[str, dict[bytes, bytes]] = {owner: {} for owner in _existing_documents(conn, owners)}
        for position, vector in fresh.items():
            owner = targets[position].document_id
            if owner in vectors_of:
                vectors_of[owner][keys[position]] = vector
        uses = [
            CacheUse(collection.collection_id, owner, {}, vectors)
            for owner, vectors in sorted(vectors_of.items())
        ]
        embedding_cache.record_uses(conn, uses, self._now)

    async def _model(self, collection: Collection) -> ModelInfo:
        where = f"the vectors of tenant `{collection.tenant}`"
        try:
            info = await asyncio.to_thread(self._catalogue.info, collection.model)
        except (UnknownModel, ModelError) as exc:
            raise type(exc)(f"{where} need a model that is not here: {exc}", remedy=exc.remedy) from exc
        if info.space != collection.space:
            raise SpaceMismatch(
                f"{where} are of another `{collection.model}` (space {collection.space}, now {info.space}): "
                "restore that model, or ingest the documents again"
            )
        return info


def _existing_documents(conn: Connection, document_ids: set[str]) -> set[str]:
    query = select(documents.c.document_id).where(
        documents.c.document_id.in_(sorted(document_ids)), documents.c.deleted_at.is_(None)
    )
    return set(conn.execute(query).scalars())
