"""The vector store port. A store is a view that can be rebuilt from SQL, never the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import Permanent

Metadata = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Aligned rows: `vectors` float32 (n, dim), finite; `documents` None when texts stay in SQL only.

    Raises Permanent when made of anything else, so that no store needs to check.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[Metadata]
    documents: Sequence[str] | None

    def __post_init__(self) -> None:
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
        """Rows [first, past)."""
        return VectorRows(
            self.ids[first:past],
            self.vectors[first:past],
            self.metadatas[first:past],
            None if self.documents is None else self.documents[first:past],
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` is the cosine similarity, -1..1, higher is nearer."""

    id: str
    score: float


class VectorStore(Protocol):
    """Collections of vectors, each of exactly one space; `collection_name` says which is whose.

    Every method may raise VectorStoreUnavailable (retry, also after `close`), VectorStoreDied (retry, but not
    for ever: the call may be why), StorageFull, or Permanent for content the store cannot hold (a text with
    lone surrogates). All may be repeated harmlessly. A write of many rows may be kept in part when it fails:
    repeat it whole. An id given twice in one call counts once, with its last row.
    """

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        """Create the collection if it is missing. SpaceMismatch if it holds another space or dimension."""
        ...

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        """Write rows; of a row with a known id, vector and metadata are replaced whole. Durable on return.

        A text stored earlier stays when `documents` is None. SpaceMismatch if the vectors have another
        dimension. VectorStoreUnavailable if the collection is missing: ensure it, then repeat.
        """
        ...

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        """Replace metadata of rows that exist; ids or collections not there are ignored."""
        ...

    async def vectors(self, collection: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Which of these ids have a row, in any order, and their vectors (n, dim), as `scan` gives them.

        The same bits each time until the row is written again, though not quite those that were written:
        a store may scale a vector to length 1.
        """
        ...

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Remove rows; ids not there are ignored. A missing collection is no error."""
        ...

    async def query(
        self, collection: str, vector: NDArray[np.float32], *, space: str, limit: int
    ) -> list[Hit]:
        """Up to `limit` (>= 1) of the nearest rows to `vector` (dim,), nearest first.

        Approximate: a large collection may miss a near row. SpaceMismatch if the query is of another
        space or dimension, InvalidRequest if it is not finite. A missing collection has no hits.
        """
        ...

    def scan(
        self, collection: str, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """Rows in pages of up to `page` (ids, vectors float32 (n, dim)), in no particular order.

        Each row that is there from start to end comes exactly once, whatever is written meanwhile. Vectors
        come back to within float32 rounding, and the same bits each time. Keeps all ids in memory: about 100
        bytes a row.
        """
        ...

    async def drop_collection(self, name: str) -> None:
        """Remove the collection with all its rows, damaged ones too. A missing one is no error."""
        ...

    async def count(self, collection: str) -> int:
        """Rows in the collection; 0 if it does not exist."""
        ...

    async def close(self) -> None:
        """Flush and release. The store can be opened again by another process afterwards."""
        ...
