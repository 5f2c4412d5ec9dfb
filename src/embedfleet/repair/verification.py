"""Compares the vector store with SQL, row by row, also while workers write to both.

The first pass compares a snapshot of SQL with a later scan of the store, so a row that a worker writes in
between looks wrong. Therefore the second pass reads each suspect row again: SQL, the store, and SQL once
more. A difference counts only if SQL says the same both times.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import Permanent, Remedy, VectorStoreUnavailable
from embedfleet.paging import pages
from embedfleet.records import chunks, documents, store_fence
from embedfleet.records.collections import Collection
from embedfleet.repair import expected
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of, same_direction
from embedfleet.vectors.port import VectorStore

T = TypeVar("T")

# A page of vectors takes 2 MB at 1,024 dimensions.
_DOCUMENTS_PER_PAGE = 500
_ROWS_PER_PAGE = 500

Progress = Callable[[int, int], None]
"""Called with (rows compared so far, rows that the store should hold)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """`rate`: the share of the rows with a correct checksum that the model embeds again, as a check."""

    rate: float
    seed: int


@dataclass(slots=True)
class Differences:
    """How one collection differs from SQL: lists of chunk ids.

    `name_in_store`: what the store calls the collection. `rows`: how many rows the store should hold.
    `sampled`: how many rows were embedded again as a sample.
    `missing`: SQL has the row, the store does not. `extra`: the store has the row, SQL does not allow it.
    `wrong`: the store holds another vector than the chunk's. `rounded`: the checksum differs, but the vector
    is the chunk's up to rounding. `without_checksum`: SQL has no checksum of the row.
    `undecided`: the checksum differs, and the chunk's vector cannot be made, as its text is gone or the model
    fails on it. A reader does not notice rounded rows and rows without a checksum.
    """

    collection: Collection
    name_in_store: str
    rows: int = 0
    sampled: int = 0
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    without_checksum: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many differences a reader could notice."""
        return len(self.missing) + len(self.extra) + len(self.wrong) + len(self.undecided)


class Verification:
    """Reads and changes nothing. Keeps all ids and one page of vectors of a collection in memory."""

    def __init__(
        self, database: Database, store: VectorStore, truth: TrueVectors, *, sampling: Sampling | None = None
    ) -> None:
        self._database = database
        self._store = store
        self._part_id = store.part_id
        self._truth = truth
        self._sampling = sampling
        self._random = random.Random(0 if sampling is None else sampling.seed)

    async def check(
        self,
        collection: Collection,
        *,
        check_without_checksum: bool = False,
        progress: Progress | None = None,
    ) -> Differences:
        """Compare every row.

        A row without a checksum in SQL is compared only with `check_without_checksum`: that embeds it again.
        Raises ModelError, UnknownModel or SpaceMismatch if a vector must be compared and this process does
        not have the model that made it. Raises StoreMoved if the vectors move to another store before the
        end: what SQL says is of that store then.
        """
        # SQL first: a row that a worker adds after this read is unexpected, which the second pass clears up.
        expected_checksums = await self._expected_checksums(collection)
        name = self._store.name_in_store(collection)
        found = Differences(collection, name, rows=len(expected_checksums))
        unexpected: list[str] = []
        compared = 0
        async for ids, vectors in self._scan(collection):
            unexpected += [row_id for row_id in ids if row_id not in expected_checksums]
            await self._compare(
                found,
                {row_id: expected_checksums.pop(row_id) for row_id in ids if row_id in expected_checksums},
                checksums_of(ids, vectors),
                check_without_checksum=check_without_checksum,
            )
            compared += len(ids)
            if progress is not None:
                progress(compared, found.rows)
        not_scanned = list(expected_checksums)
        found.missing = await self._still_missing(collection, not_scanned)
        found.extra = await self._still_extra(collection, unexpected)
        await self._read(lambda _: None)  # whether it is still the system's store, once more
        return found

    async def _read(self, unit: Callable[[Connection], T]) -> T:
        """Read from SQL, if the store is still the system's."""
        part_id = self._part_id

        def if_current(conn: Connection) -> T:
            store_fence.require_current(conn, part_id)
            return unit(conn)

        return await self._database.read(if_current)

    async def _scan(self, collection: Collection) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """All rows of the store, in pages. Raises VectorStoreUnavailable if it cannot read the collection."""
        try:
            async for page in self._store.scan(collection):
                yield page
        except (VectorStoreUnavailable, Permanent) as exc:
            # A store may answer and yet be unable to read one of its collections.
            name = self._store.name_in_store(collection)
            raise VectorStoreUnavailable(
                f"collection {name} (tenant `{collection.tenant}`, model `{collection.model}`) cannot be "
                f"read: {exc}. If the vector store answers otherwise, its index is damaged: "
                "rebuild the vectors, which drops it and writes another",
                remedy=Remedy.REBUILD_VECTORS,
            ) from exc

    async def _expected_checksums(self, collection: Collection) -> dict[str, bytes | None]:
        """The checksum in SQL of every row that the store should hold, by chunk id."""
        checksums: dict[str, bytes | None] = {}
        async for document_ids in self._document_pages(collection):
            read = partial(
                expected.stored_checksums, collection_id=collection.collection_id, document_ids=document_ids
            )
            checksums.update(await self._read(read))
        return checksums

    async def _document_pages(self, collection: Collection) -> AsyncIterator[list[str]]:
        after = ""
        while True:
            read = partial(
                documents.ids_after, tenant=collection.tenant, after=after, limit=_DOCUMENTS_PER_PAGE
            )
            page = await self._read(read)
            if not page:
                return
            yield page
            after = page[-1]

    async def _compare(
        self,
        found: Differences,
        expected_checksums: Mapping[str, bytes | None],
        checksums: Mapping[str, bytes],
        *,
        check_without_checksum: bool,
    ) -> None:
        """Compare the checksums; then the vectors of rows that differ, and of the sample."""
        without = [row_id for row_id, checksum in expected_checksums.items() if checksum is None]
        found.without_checksum += without
        differing = [
            row_id
            for row_id, checksum in expected_checksums.items()
            if checksum is not None and checksum != checksums[row_id]
        ]
        await self._compare_vectors(found, differing + (without if check_without_checksum else []))
        if self._sampling is not None:
            rate = self._sampling.rate
            # Sorted, so that the same seed draws the same sample: the order of a set is not fixed.
            equal = sorted(expected_checksums.keys() - set(differing) - set(without))
            sample = [row_id for row_id in equal if self._random.random() < rate]
            found.sampled += len(sample)
            await self._compare_vectors(found, sample, is_sample=True)

    async def _compare_vectors(
        self, found: Differences, chunk_ids: Sequence[str], *, is_sample: bool = False
    ) -> None:
        """Compare the stored vectors with those that the chunks should have.

        A sample is compared with what the model makes now, not with the cache: a wrong vector in the cache
        would confirm itself.
        """
        for page in pages(chunk_ids, _ROWS_PER_PAGE):
            stored = await self._unchanged_vectors(found.collection, page, also_equal=is_sample)
            targets = await self._read(partial(expected.targets, chunk_ids=list(stored)))
            true_vectors = await self._truth.of(found.collection, targets, ask_cache=not is_sample)
            comparable = [row_id for row_id in stored if row_id in true_vectors]
            if not is_sample:
                found.undecided += [row_id for row_id in stored if row_id not in true_vectors]
            if not comparable:
                continue
            are_same = same_direction(
                np.stack([stored[row_id] for row_id in comparable]),
                np.stack([true_vectors[row_id] for row_id in comparable]),
            )
            found.wrong += [row_id for row_id, same in zip(comparable, are_same, strict=True) if not same]
            if not is_sample:
                found.rounded += [
                    row_id
                    for row_id, same in zip(comparable, are_same, strict=True)
                    if same and row_id not in found.without_checksum
                ]

    async def _unchanged_vectors(
        self, collection: Collection, chunk_ids: Sequence[str], *, also_equal: bool
    ) -> dict[str, NDArray[np.float32]]:
        """The stored vectors of the rows that no worker changes during this call.

        Rows whose checksum is the one in SQL are included only with `also_equal`.
        """
        before = await self._read(partial(chunks.stored_vectors, chunk_ids=chunk_ids))
        ids, vectors = await self._store.vectors(collection, chunk_ids)
        after = await self._read(partial(chunks.stored_vectors, chunk_ids=chunk_ids))
        checksums = checksums_of(ids, vectors)
        return {
            row_id: vector
            for row_id, vector in zip(ids, vectors, strict=True)
            if row_id in after
            and before.get(row_id) == after[row_id]
            and (also_equal or after[row_id].checksum != checksums[row_id])
        }

    async def _still_missing(self, collection: Collection, chunk_ids: Sequence[str]) -> list[str]:
        """The ids that the store does not hold although SQL says so before and after looking."""
        missing: list[str] = []
        for page in pages(chunk_ids, _ROWS_PER_PAGE):
            before = await self._read(partial(chunks.stored_vectors, chunk_ids=page))
            present = set((await self._store.vectors(collection, page))[0])
            after = await self._read(partial(chunks.stored_vectors, chunk_ids=page))
            missing += [
                row_id
                for row_id in page
                if row_id not in present and row_id in after and before.get(row_id) == after[row_id]
            ]
        return missing

    async def _still_extra(self, collection: Collection, chunk_ids: Sequence[str]) -> list[str]:
        """The ids that the store holds although SQL does not allow them, before and after looking."""
        extra: list[str] = []
        for page in pages(chunk_ids, _ROWS_PER_PAGE):
            # SQL is read before the store: otherwise a row that a worker is just deleting would be read from
            # the store, and then be gone from SQL.
            allowed_before = await self._read(partial(expected.allowed_ids, chunk_ids=page))
            suspects = [row_id for row_id in page if row_id not in allowed_before]
            present = (await self._store.vectors(collection, suspects))[0] if suspects else []
            allowed_after = await self._read(partial(expected.allowed_ids, chunk_ids=present))
            extra += [row_id for row_id in present if row_id not in allowed_after]
        return extra
