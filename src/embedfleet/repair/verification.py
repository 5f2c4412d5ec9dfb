"""The vector store held against SQL, row by row.

Right beside running workers: what looks wrong in two snapshots, first of SQL, then of the store, is looked at
again, SQL before and after the store, and counts only if nobody has touched it meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import Permanent, VectorStoreUnavailable
from embedfleet.records import chunks
from embedfleet.records.collections import Collection
from embedfleet.repair import expected
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of, same_direction
from embedfleet.vectors.port import VectorStore

_DOCUMENTS_PER_READ = 500
_ROWS_PER_LOOK = 500

Progress = Callable[[int, int], None]
"""Told (rows looked at, rows there should be)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Share of the rows whose checksum is right that are embedded again all the same."""

    rate: float
    seed: int


@dataclass(slots=True)
class Differences:
    """What one collection has otherwise than SQL says. `rows`: how many there should be.

    `wrong`: another vector than the chunk's. `rounded`: the checksum differs, the vector is the chunk's.
    `unknown`: SQL has no checksum. `unjudged`: the checksum differs, and nobody can tell, as the text is gone
    or the model fails on it. Rounded and unknown ones are no differences to a reader.
    """

    collection: Collection
    rows: int = 0
    sampled: int = 0
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Of what readers would notice."""
        return len(self.missing) + len(self.extra) + len(self.wrong) + len(self.unjudged)


class Verification:
    """Reads only. Keeps the ids of one collection in memory, and one page of its vectors."""

    def __init__(
        self, database: Database, store: VectorStore, truth: TrueVectors, *, sampling: Sampling | None = None
    ) -> None:
        self._database = database
        self._store = store
        self._truth = truth
        self._sampling = sampling
        self._random = random.Random(0 if sampling is None else sampling.seed)

    async def check(
        self, collection: Collection, *, judge_unknown: bool = False, progress: Progress | None = None
    ) -> Differences:
        """Compare all of it. `judge_unknown`: rows without a checksum are embedded again too.

        Raises ModelError, UnknownModel or SpaceMismatch if a vector must be judged and its model is not here.
        """
        promised = await self._promised(collection)
        found = Differences(collection, rows=len(promised))
        strangers: list[str] = []
        looked_at = 0
        async for ids, vectors in self._scanned(collection):
            checksums = checksums_of(ids, vectors)
            strangers += [row_id for row_id in ids if row_id not in promised]
            await self._compare(
                found,
                {row_id: promised.pop(row_id) for row_id in ids if row_id in promised},
                checksums,
                judge_unknown=judge_unknown,
            )
            looked_at += len(ids)
            if progress is not None:
                progress(looked_at, found.rows)
        found.missing = await self._still_missing(collection, list(promised))
        found.extra = await self._still_extra(collection, strangers)
        return found

    async def _scanned(self, collection: Collection) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """Every row. A store may be up and yet not be able to read one of its collections."""
        try:
            async for page in self._store.scan(collection.name):
                yield page
        except (VectorStoreUnavailable, Permanent) as exc:
            raise VectorStoreUnavailable(
                f"collection {collection.name} cannot be read: {exc}. If the vector store answers otherwise, "
                "its index is damaged: `embedfleet rebuild` drops it and writes it anew"
            ) from exc

    async def _promised(self, collection: Collection) -> dict[str, bytes | None]:
        """The checksum of each id that there should be."""
        promised: dict[str, bytes | None] = {}
        async for page in self._documents(collection):
            read = partial(expected.stored_by_document, collection_id=collection.collection_id, page=page)
            promised.update(await self._database.read(read))
        return promised

    async def _documents(self, collection: Collection) -> AsyncIterator[list[str]]:
        after = ""
        while True:
            page = await self._database.read(
                partial(
                    expected.document_ids,
                    tenant=collection.tenant,
                    after=after,
                    limit=_DOCUMENTS_PER_READ,
                )
            )
            if not page:
                return
            yield page
            after = page[-1]

    async def _compare(
        self,
        found: Differences,
        promised: Mapping[str, bytes | None],
        checksums: Mapping[str, bytes],
        *,
        judge_unknown: bool,
    ) -> None:
        unknown = [row_id for row_id, checksum in promised.items() if checksum is None]
        found.unknown += unknown
        doubtful = [
            row_id
            for row_id, checksum in promised.items()
            if checksum is not None and checksum != checksums[row_id]
        ]
        await self._judge(found, doubtful + (unknown if judge_unknown else []))
        if self._sampling is not None:
            rate = self._sampling.rate
            right = sorted(promised.keys() - set(doubtful) - set(unknown))
            sample = [row_id for row_id in right if self._random.random() < rate]
            found.sampled += len(sample)
            await self._judge(found, sample, sampled=True)

    async def _judge(self, found: Differences, chunk_ids: Sequence[str], *, sampled: bool = False) -> None:
        for start in range(0, len(chunk_ids), _ROWS_PER_LOOK):
            part = chunk_ids[start : start + _ROWS_PER_LOOK]
            held = await self._held(found.collection, part, also_right=sampled)
            targets = await self._database.read(partial(expected.targets, chunk_ids=list(held)))
            truth = await self._truth.of(found.collection, targets, ask_cache=not sampled)
            both = [row_id for row_id in held if row_id in truth]
            if not sampled:
                found.unjudged += [row_id for row_id in held if row_id not in truth]
            if not both:
                continue
            same = same_direction(
                np.stack([held[row_id] for row_id in both]), np.stack([truth[row_id] for row_id in both])
            )
            found.wrong += [row_id for row_id, right in zip(both, same, strict=True) if not right]
            if not sampled:
                found.rounded += [
                    row_id
                    for row_id, right in zip(both, same, strict=True)
                    if right and row_id not in found.unknown
                ]

    async def _held(
        self, collection: Collection, chunk_ids: Sequence[str], *, also_right: bool
    ) -> dict[str, NDArray[np.float32]]:
        """The vectors of these that nobody is moving; those whose checksum is right only if asked for."""
        before = await self._database.read(partial(chunks.stored_vectors, chunk_ids=chunk_ids))
        ids, vectors = await self._store.vectors(collection.name, chunk_ids)
        after = await self._database.read(partial(chunks.stored_vectors, chunk_ids=chunk_ids))
        checksums = checksums_of(ids, vectors)
        return {
            row_id: vector
            for row_id, vector in zip(ids, vectors, strict=True)
            if row_id in after
            and before.get(row_id) == after[row_id]
            and (also_right or after[row_id].checksum != checksums[row_id])
        }

    async def _still_missing(self, collection: Collection, chunk_ids: Sequence[str]) -> list[str]:
        missing: list[str] = []
        for start in range(0, len(chunk_ids), _ROWS_PER_LOOK):
            part = chunk_ids[start : start + _ROWS_PER_LOOK]
            before = await self._database.read(partial(chunks.stored_vectors, chunk_ids=part))
            there = set((await self._store.vectors(collection.name, part))[0])
            after = await self._database.read(partial(chunks.stored_vectors, chunk_ids=part))
            missing += [
                row_id
                for row_id in part
                if row_id not in there and row_id in after and before.get(row_id) == after[row_id]
            ]
        return missing

    async def _still_extra(self, collection: Collection, chunk_ids: Sequence[str]) -> list[str]:
        extra: list[str] = []
        for start in range(0, len(chunk_ids), _ROWS_PER_LOOK):
            part = chunk_ids[start : start + _ROWS_PER_LOOK]
            # Before the store, or a row that is just deleted would be seen there and then be gone from SQL.
            before = await self._database.read(partial(expected.explained, chunk_ids=part))
            strangers = [row_id for row_id in part if row_id not in before]
            there = (await self._store.vectors(collection.name, strangers))[0] if strangers else []
            after = await self._database.read(partial(expected.explained, chunk_ids=there))
            extra += [row_id for row_id in there if row_id not in after]
        return extra
