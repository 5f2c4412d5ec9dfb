"""Copies rows to the other store of a move, deletes surplus ones there, and reads all of them back.

Every step may be interrupted anywhere and repeated: what is left to do is read from SQL. The work goes page
by page. Before each page, and in each unit of SQL, it is made sure that the move still stands as the work
takes for granted: otherwise MoveWentOn is raised, and nothing more is written to either store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import Remedy, Transient
from embedfleet.paging import pages
from embedfleet.records import chunks, store_moves
from embedfleet.records.collections import Collection
from embedfleet.records.store_moves import Copied, Standing, ToCopy
from embedfleet.repair import expected
from embedfleet.repair.expected import Target
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of
from embedfleet.vectors.port import VectorRows, VectorStore
from embedfleet.vectors.store_room import LOOK_SECONDS, StoreRoom

T = TypeVar("T")

# Rows of one upsert and of one unit. A unit of this size takes some hundredths of a second.
ROWS_PER_PAGE = 500
# A vector that a store scaled to length 1 differs from the one that was sent by rounding only: a value of
# float32 is exact to 6e-8 of its size, and a store may round a few times.
_ROUNDING = 1e-6

Progress = Callable[[int], None]
"""Called with the number of rows that were copied, read or deleted since the last call."""


BeginPage = Callable[[], Awaitable[None]]
"""Called before each page. What it raises ends the work."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the reading of a collection of the other store found, in rows. All but `right` have been put
    right, or are to be copied again."""

    right: int
    wrong: int
    missing: int
    extra: int

    @property
    def faults(self) -> int:
        return self.wrong + self.missing + self.extra


class Copying:
    """Copies from the system's store to the other one. It belongs to one phase of one mover."""

    def __init__(
        self,
        database: Database,
        system: VectorStore,
        other: VectorStore,
        standing: Standing,
        begin_page: BeginPage,
        *,
        with_documents: bool,
        room: StoreRoom,
        count: Progress = lambda rows: None,
    ) -> None:
        self._database = database
        self._system = system
        self._other = other
        self._standing = standing
        self._begin_page = begin_page
        self._with_documents = with_documents
        self._room = room
        self._count = count
        self._deleted_at = monotonic()
        self._deleting_took = 0.0

    async def copy_all(self, *, closed: bool = False) -> int:
        """Copy every row that differs, once. Return how many were copied.

        Unless the store is closed, which must be short, each page waits until the other store has room for
        more, and surplus rows are deleted from time to time, so that a deletion does not wait for the end.
        Raises Transient if the system's store lacks rows or has damaged ones: they are not copied.
        """
        after, copied, damaged = "", 0, 0
        while page := await self._read(partial(store_moves.to_copy, after=after, limit=ROWS_PER_PAGE)):
            after = page[-1].chunk_id
            done, bad = await self._copy(page)
            copied += done
            damaged += bad
            self._count(done)
            if not closed:
                await self._wait_for_upkeep()
        if damaged:
            raise Transient(
                f"{damaged} rows of the vector store are missing or damaged and cannot be moved: mend them",
                remedy=Remedy.EXAMINE,
            )
        return copied

    async def _wait_for_upkeep(self) -> None:
        """Return when the other store has room for more. Who leads tends it, as it does the system's.

        Otherwise it would be so far behind at the switch that storage stopped there. Deletions do not wait.
        """
        while True:
            if self._is_time_to_delete():
                await self.delete_surplus()
            if await self._room.is_there():
                return
            await self._begin_page()
            await asyncio.sleep(LOOK_SECONDS)

    def _is_time_to_delete(self) -> bool:
        """Whether surplus rows are looked for: that reads a whole table, so it takes 5% of the time."""
        return monotonic() > self._deleted_at + max(1.0, 20 * self._deleting_took)

    async def delete_surplus(self) -> int:
        """Delete the rows of the other store that SQL does not record any more. Return how many.

        A collection that is empty then is dropped: it may be that of a tenant who is deleted.
        """
        begun = monotonic()
        deleted = await self.delete_rows()
        await self._forget()
        self._deleted_at, self._deleting_took = monotonic(), monotonic() - begun
        return deleted

    async def delete_rows(self) -> int:
        """Do so without the slow part: what the store keeps of deleted rows is forgotten later.

        Until then the rows are noted, and receipts wait for them.
        """
        deleted = 0
        while found := await self._read(partial(store_moves.surplus, limit=ROWS_PER_PAGE)):
            for collection, ids in found.items():
                await self._other.delete(collection, ids)
                await self._write(partial(store_moves.record_deleted, chunk_ids=ids))
                deleted += len(ids)
            self._count(sum(len(ids) for ids in found.values()))
        return deleted

    async def _forget(self) -> None:
        """Have the stores forget the rows that were deleted from them, once for each collection."""
        forgotten: set[Collection] = set()
        while found := await self._read(partial(store_moves.to_forget, limit=ROWS_PER_PAGE)):
            fresh = [collection for collection in found if collection not in forgotten]
            await self._forget_in(fresh)
            forgotten.update(fresh)
            for ids in found.values():
                await self._write(partial(store_moves.record_forgotten, chunk_ids=ids))

    async def _forget_in(self, collections: Sequence[Collection]) -> None:
        if not collections:
            return
        mine = partial(store_moves.deleted_from_system, ids=[one.collection_id for one in collections])
        known = await self._read(mine)
        of_system = [one for one in collections if one.collection_id in known]
        if of_system:
            await self._system.forget_deleted(*of_system)
        await self._other.forget_deleted(*collections)
        for collection in collections:
            if await self._other.count(collection) == 0:
                await self._other.drop_collection(collection)

    async def read_back(self, collection: Collection) -> ReadBack:
        """Read every row of the other store and compare it with what was recorded when it was copied.

        A row that differs or is missing is to be copied again; one that SQL does not know is deleted. Nothing
        may be copied at the same time. It keeps all ids of the collection in memory.
        """
        right = wrong = extra = 0
        seen: set[bytes] = set()
        async for ids, held in self._other.scan(collection):
            seen.update(bytes.fromhex(one) for one in ids)
            known = await self._read(partial(store_moves.copies_of, chunk_ids=ids))
            sums = checksums_of(ids, held)
            differ = [i for i in ids if known.get(i) is not None and known[i] != sums[i]]
            unknown = [i for i in ids if i not in known]
            await self._write(partial(store_moves.forget_copies, chunk_ids=differ))
            if unknown:
                await self._other.delete(collection, unknown)
            right += sum(known.get(i) == sums[i] for i in ids)
            wrong += len(differ)
            extra += len(unknown)
            self._count(len(ids))
        return ReadBack(right, wrong, await self._copy_missing_again(collection, seen), extra)

    async def _copy_missing_again(self, collection: Collection, seen: set[bytes]) -> int:
        """Have the recorded rows copied again that a scan of the collection did not give. Return how many."""
        after, missing = "", 0
        look = partial(store_moves.copied_ids, collection_id=collection.collection_id, limit=ROWS_PER_PAGE)
        while ids := await self._read(partial(look, after=after)):
            after = ids[-1]
            gone = [one for one in ids if bytes.fromhex(one) not in seen]
            await self._write(partial(store_moves.forget_copies, chunk_ids=gone))
            missing += len(gone)
        return missing

    async def _read(self, unit: Callable[[Connection], T]) -> T:
        """Read a page, if the move still stands."""
        await self._begin_page()
        standing = self._standing

        def if_it_stands(conn: Connection) -> T:
            store_moves.require(conn, standing)
            return unit(conn)

        return await self._database.read(if_it_stands)

    async def _write(self, unit: Callable[[Connection], T]) -> T:
        """Record something, if the move still stands."""
        standing = self._standing

        def if_it_stands(conn: Connection) -> T:
            store_moves.require(conn, standing, until_commit=True)
            return unit(conn)

        return await self._database.write(if_it_stands)

    async def _copy(self, page: Sequence[ToCopy]) -> tuple[int, int]:
        """Copy these rows. Return how many were copied, and how many the system's store lacks or damaged."""
        # Before anything of them is read: the other store never holds a row that SQL does not know of, and no
        # row is copied with metadata of before its note.
        noted = await self._write(partial(store_moves.note, rows=page))
        by_collection: dict[Collection, list[ToCopy]] = {}
        for row in page:
            if row.chunk_id in noted:
                by_collection.setdefault(row.collection, []).append(row)
        copied = damaged = 0
        for collection, rows in by_collection.items():
            done, bad = await self._copy_rows(collection, rows)
            copied += done
            damaged += bad
        return copied, damaged

    async def _copy_rows(self, collection: Collection, rows: Sequence[ToCopy]) -> tuple[int, int]:
        targets = await self._read(partial(expected.targets, chunk_ids=[row.chunk_id for row in rows]))
        vectors = await self._vectors(collection, rows)
        sums = checksums_of(list(vectors), np.stack(list(vectors.values()))) if vectors else {}
        whole = {
            row.chunk_id: row
            for row in rows
            if row.chunk_id in vectors and row.checksum in (None, sums[row.chunk_id])
        }
        given = [target for target in targets if target.chunk_id in whole]
        if given:
            held = await self._upsert(collection, given, vectors)
            copied = [Copied(whole[one.chunk_id], held[one.chunk_id], sums[one.chunk_id]) for one in given]
            await self._write(partial(store_moves.record_copied, rows=copied))
        done = {target.chunk_id for target in given}
        return len(done), await self._still_there([row for row in rows if row.chunk_id not in done])

    async def _vectors(
        self, collection: Collection, rows: Sequence[ToCopy]
    ) -> Mapping[str, NDArray[np.float32]]:
        ids, vectors = await self._system.vectors(collection, [row.chunk_id for row in rows])
        return dict(zip(ids, vectors, strict=True))

    async def _upsert(
        self,
        collection: Collection,
        targets: Sequence[Target],
        vectors: Mapping[str, NDArray[np.float32]],
    ) -> dict[str, bytes]:
        """Write the rows to the other store, and return the checksums of what it holds now.

        Raises Transient if it holds other vectors than those that were sent.
        """
        ids = [target.chunk_id for target in targets]
        sent = np.stack([vectors[row_id] for row_id in ids])
        rows = VectorRows(
            ids,
            sent,
            [target.metadata for target in targets],
            [target.text for target in targets] if self._with_documents else None,
        )
        await self._other.ensure_collection(collection)
        await self._other.upsert(collection, rows)
        found, held = await self._other.vectors(collection, ids)
        if len(found) == len(ids):
            place_of = {row_id: place for place, row_id in enumerate(found)}
            held = held[[place_of[row_id] for row_id in ids]]
        if len(found) < len(ids) or not same_vectors(sent, held).all():
            raise Transient(
                f"collection {self._other.name_in_store(collection)} of the other store does not return what "
                "was written to it: it is written again"
            )
        return checksums_of(ids, held)

    async def _still_there(self, rows: Sequence[ToCopy]) -> int:
        """Return how many of these rows SQL still records as they were read: the store should have them."""
        still = 0
        for page in pages(rows, ROWS_PER_PAGE):
            now = await self._read(partial(chunks.stored_vectors, chunk_ids=[row.chunk_id for row in page]))
            still += sum(
                row.chunk_id in now
                and now[row.chunk_id].writes == row.writes
                and now[row.chunk_id].document_id == row.document_id
                for row in page
            )
        return still


def same_vectors(sent: NDArray[np.float32], held: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return, for each row, whether `held` is `sent`: the same bits, or that vector scaled to length 1."""
    equal = (sent == held).all(axis=1)
    lengths = np.linalg.norm(sent.astype(np.float64), axis=1, keepdims=True)
    scaled = sent / np.maximum(lengths, np.finfo(np.float32).tiny)
    same: NDArray[np.bool_] = equal | (np.abs(scaled - held) <= _ROUNDING).all(axis=1)
    return same
