"""The vector store port. A store is a view that can be rebuilt from SQL, never the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Metadata = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Aligned rows: `vectors` float32 (n, dim); `documents` None when texts stay in SQL only."""

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[Metadata]
    documents: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` is the cosine similarity, -1..1, higher is nearer."""

    id: str
    score: float


class VectorStore(Protocol):
    """Collections of vectors, each of exactly one space.

    Every method may raise VectorStoreUnavailable (retry) or StorageFull. All may be repeated harmlessly.
    """

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        """Create the collection if it is missing. SpaceMismatch if it holds another space."""
        ...

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        """Write rows; a row with a known id is replaced. Durable on return."""
        ...

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        """Replace metadata of rows that exist; ids not there are ignored."""
        ...

    async def existing(self, collection: str, ids: Sequence[str]) -> set[str]:
        """Which of these ids have a row."""
        ...

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Remove rows; ids not there are ignored. A missing collection is no error."""
        ...

    async def query(
        self, collection: str, vector: NDArray[np.float32], *, space: str, limit: int
    ) -> list[Hit]:
        """The nearest rows to `vector` (dim,), nearest first.

        SpaceMismatch if the query is of another space. A missing collection has no hits.
        """
        ...

    def scan(
        self, collection: str, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """Every row, in pages of (ids, vectors float32 (n, dim)), in no particular order."""
        ...

    async def count(self, collection: str) -> int:
        """Rows in the collection; 0 if it does not exist."""
        ...

    async def close(self) -> None:
        """Flush and release. The store can be opened again by another process afterwards."""
        ...
