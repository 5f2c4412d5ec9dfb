"""The vector store port. A store is a view that can be rebuilt from SQL; SQL is the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from embedfleet.errors import Permanent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

Metadata = Mapping[str, str | int | float | bool | list[str]]
"""The metadata of a row. A list has at least one text."""


class CollectionKey(Protocol):
    """Names a collection: the vectors of one tenant in one space. `dim` is the dimension of that space.

    `tenant` and `space` identify the collection, and a space has one `dim`. `records.collections.Collection`
    has these properties, so it can be passed as it is.
    """

    @property
    def tenant(self) -> str: ...

    @property
    def space(self) -> str: ...

    @property
    def dim(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TenantSpace:
    """A `CollectionKey` for callers that have no record of the collection in SQL."""

    tenant: str
    space: str
    dim: int


@dataclass(frozen=True, slots=True)
class VectorRows:
    """The rows of a write. All fields have one entry for each row.

    `vectors`: float32 (n, dim), finite. `documents` is None if the texts stay in SQL only. The constructor
    raises Permanent for anything else, so no store needs to check.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[Metadata]
    documents: Sequence[str] | None

    def __post_init__(self) -> None:
        import numpy as np  # not above: a process that only queries needs none of it

        n = len(self.ids)
        if self.vectors.dtype != np.float32 or self.vectors.ndim != 2:
            raise Permanent(
                f"vectors must be float32 (n, dim), not {self.vectors.dtype} {self.vectors.shape}"
            )
        texts = n if self.documents is None else len(self.documents)
        if not len(self.vectors) == len(self.metadatas) == texts == n:
            raise Permanent(f"{n} ids, {len(self.vectors)} vectors and their metadata or texts do not align")
        broken = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(broken):
            raise Permanent(f"the vector of {self.ids[broken[0]]} holds a value that is not finite")

    def part(self, first: int, past: int) -> VectorRows:
        """Return the rows [first, past)."""
        return VectorRows(
            self.ids[first:past],
            self.vectors[first:past],
            self.metadatas[first:past],
            None if self.documents is None else self.documents[first:past],
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that a query found. `score` is the cosine similarity, -1..1; a higher score is nearer."""

    id: str
    score: float

    @classmethod
    def from_distance(cls, row_id: str, distance: float) -> Hit:
        """Return the hit of this cosine distance, 0..2.

        Rounding can make a distance slightly negative, but a cosine is never above 1.
        """
        return cls(row_id, max(-1.0, min(1.0, 1.0 - distance)))


@dataclass(frozen=True, slots=True)
class StoreDebt:
    """Upkeep that a store has put off, so that its writes are quick. All counts are of the whole store.

    `surplus_files`: files, or segments, that a compaction would merge away. `unindexed_rows`: rows that are
    in no index yet, so that every search compares each of them.
    """

    surplus_files: int = 0
    unindexed_rows: int = 0


class RowsToCommit(Protocol):
    """Rows of one collection that are to be written in a transaction of the database that has the records.

    `refused` says, by id, why the store cannot hold a row; it is left out.
    """

    @property
    def refused(self) -> Mapping[str, str]: ...

    def write(self, transaction: Connection, wanted: Set[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Write the rows of these ids. Return their ids, and the vectors as the store holds them now.

        Blocks. The transaction is the caller's: what is written is there when it is committed, and never
        otherwise. Raises errors of the database, and VectorStoreUnavailable if the collection is missing.
        """
        ...


class CommitsWithRecords(Protocol):
    """The part of a store that is in the database of the records, so that both are committed together."""

    async def prepare(self, collection: CollectionKey, rows: VectorRows) -> RowsToCommit:
        """Do what needs no transaction: encode the rows, once for all tries of the transaction.

        Raises SpaceMismatch if the vectors have another dimension.
        """
        ...


class VectorStore(Protocol):
    """Holds rows (an id, a vector, metadata, perhaps a text) in collections, one for each tenant and space.

    How a collection lies in the store is the adapter's choice: a collection of its own, a table for each
    tenant, or one table for all. In every layout a call sees and changes only the rows of the collection it
    names, and one id may be in several collections.

    Every method may raise VectorStoreUnavailable (try again; also after `close`), VectorStoreDied (try again,
    but not for ever: the call may be the reason), StorageFull, or Permanent for content that the store cannot
    hold (a text with lone surrogates). Every call may be repeated without harm. When a write of many rows
    fails, the store may have kept some of them: repeat the whole write. An id given twice in one call counts
    once, with its last row.
    """

    def name_in_store(self, collection: CollectionKey) -> str:
        """Return the name of the collection in the store, for messages only."""
        ...

    async def ensure_collection(self, collection: CollectionKey) -> None:
        """Create the collection if it is missing.

        Raises SpaceMismatch if it holds another space or dimension.
        """
        ...

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        """Write rows; a row with a known id gets the new vector and only the new metadata.

        On return the rows outlive a kill of the process. Whether they outlive a loss of power is the store's
        own promise: LanceDB leaves its files to the operating system, which writes them within seconds.

        If `documents` is None, a text that was stored earlier stays. Raises SpaceMismatch if the vectors have
        another dimension. Raises VectorStoreUnavailable if the collection is missing: ensure it, then repeat.
        """
        ...

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        """Replace the metadata of rows that exist. A missing row or collection is ignored."""
        ...

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids among these that have a row, in any order, and their vectors float32 (n, dim).

        A vector has the same bits at every read until its row is written again. These bits may differ from
        those that were written: a store may scale a vector to length 1.
        """
        ...

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        """Return the ids of the rows whose metadata has one of these texts under the key, by text.

        Exact, unlike a query. A text without rows is left out. A missing collection has no rows.
        """
        ...

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        """Remove rows. A missing row or collection is ignored."""
        ...

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        """Have the store drop what it keeps of deleted rows to do its writes again, such as a log.

        A store may keep the texts of deleted rows in such a place for long. No file is overwritten: bytes may
        stay where its space is free. A missing collection is ignored. Call it once for many deletions, with
        the collections of all: Chroma takes about a tenth of a second for each, and LanceDB writes each file
        again that has a deleted row of any. Qdrant has no call for it, so there the texts stay in its log
        until it is overwritten.
        """
        ...

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        """Return up to `limit` (>= 1) rows nearest to `vector` (dim,), nearest first.

        The search is approximate: in a large collection it may miss a near row. A missing collection has no
        hits. Raises SpaceMismatch if the collection holds another space or dimension than the query, and
        InvalidRequest if the query is not finite.
        """
        ...

    def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield all rows, in any order, in pages of up to `page` rows: (ids, vectors float32 (n, dim)).

        A row that is in the collection from the start to the end of the scan comes exactly once, whatever is
        written during the scan. A vector has the same bits as from `vectors`. The scan keeps all ids in
        memory: about 100 bytes a row.
        """
        ...

    async def drop_collection(self, collection: CollectionKey) -> None:
        """Remove the collection with all its rows, damaged ones too. A missing collection is ignored."""
        ...

    async def count(self, collection: CollectionKey) -> int:
        """Return the number of rows in the collection; 0 if it does not exist."""
        ...

    def with_records(self) -> CommitsWithRecords | None:
        """Return how rows are committed together with the records; None if the store is in another place."""
        return None

    async def debt(self) -> StoreDebt:
        """Return the upkeep that the store has put off. It is cheap: call it every few seconds.

        A store that does its upkeep by itself, at each write or in its server, has none.
        """
        return StoreDebt()

    async def tend(self) -> None:
        """Do a part of the upkeep that was put off: compact files, index rows.

        It takes a minute or so at most. Other calls may run at the same time, and so may a second `tend`, of
        another process. No row changes, and what `forget_deleted` promises still holds.
        """
        return

    @property
    def part_id(self) -> str | None:
        """The id under which SQL records this store as the system's. None: it is not compared.

        Read it before the first call of a piece of work: what is recorded of the work names it.
        """
        return None

    async def follow(self) -> None:
        """Look again which store is the system's, and pass calls on to that one from now on."""
        return

    def not_forgotten(self) -> str | None:
        """Return where the text of a deleted row may be after `forget_deleted`, as receipts say it.

        None if it is nowhere but in free space.
        """
        return None

    def expect_mark(self) -> None:
        """Take this store for the system's from now on: it has a mark, and without one it is away.

        Then what is missing counts as missing only if the mark is there. Otherwise the call raises
        VectorStoreUnavailable: an empty directory in place of a mount, or another server at the address, has
        no rows either. A store that cannot come back with other contents need not look.
        """
        return

    async def mark(self) -> str | None:
        """Return the mark that says to which system the whole store belongs; None if it has none.

        A store that is dropped as a whole loses its mark too.
        """
        ...

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        """Leave `mark` if there is none, or if `replacing` is there. Durable on return.

        Returns the mark that is there now. Of callers that find no mark at the same time, one succeeds. No
        row changes.
        """
        ...

    async def close(self) -> None:
        """Write everything to disk and release all resources. Then another process may open the store."""
        ...
