"""The port of a source: collections that another system filled, and that are read and never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LABELS_PAGE = 2_000
"""Rows of a page of labels: a request of about a megabyte."""


@dataclass(frozen=True, slots=True)
class SourceCollection:
    """A collection of a source.

    `distance` is what it compares vectors with (`l2`, `cosine`, `ip`), "" if the source does not say.
    `metadata` is what its owner noted of the whole collection.
    """

    name: str
    rows: int
    distance: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SourceLabels:
    """A page of rows without their vectors and texts. All fields have one entry for each row."""

    ids: Sequence[str]
    metadatas: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SourceRows:
    """Whole rows. All fields have one entry for each row.

    `vectors`: float32 (n, dim), with the bits that the source holds. `texts` has None for a row without one.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[Mapping[str, Any]]
    texts: Sequence[str | None]


class Source(Protocol):
    """Collections that another system filled.

    Reading changes nothing in them, not even a byte of a file. Nothing else writes them while they are read:
    a row that is written during the reading may be missed. Every method may raise VectorStoreUnavailable
    (it cannot be reached or read now), or Permanent for content that cannot be read at all.
    """

    @property
    def place(self) -> str:
        """Where the source is, for messages: without user, password or token."""
        ...

    async def collections(self) -> list[SourceCollection]:
        """Return all collections, by name."""
        ...

    def labels(self, collection: str, *, page: int = LABELS_PAGE) -> AsyncIterator[SourceLabels]:
        """Yield every row of the collection once, in any order, in pages of up to `page` rows.

        The reading keeps all ids in memory: about 100 bytes a row.
        """
        ...

    async def rows(self, collection: str, ids: Sequence[str]) -> SourceRows:
        """Return the rows with these ids, in any order. A row that is gone is left out.

        A vector has the same bits at every read. All vectors of the answer have one dimension.
        """
        ...

    async def close(self) -> None:
        """Release everything that the reading took, such as a copy. May be called again."""
        ...
