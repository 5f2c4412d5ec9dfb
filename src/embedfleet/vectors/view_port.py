"""The port of the collections that a view fills and another system reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from embedfleet.vectors.port import VectorRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ViewCollection:
    """A collection in the reader's store.

    `tenant` decides in which place it is, if each tenant has a place of its own. `distance` and `metadata`
    are given to the collection when it is created; `fixed` are the entries of its metadata that must be
    equal if it has them: they tell which vectors it holds.
    """

    tenant: str
    name: str
    dim: int
    distance: Literal["l2", "cosine"]
    metadata: Mapping[str, str | int]
    fixed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ViewRows:
    """Rows as they are in the reader's store. All fields have one entry for each row.

    `vectors`: float32 (n, dim). `texts` has None for a row without one.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[Mapping[str, Any]]
    texts: Sequence[str | None]


class ViewStore(Protocol):
    """Writes and reads collections that another system reads, and may have filled before.

    It connects at the first call. Every method may raise VectorStoreUnavailable (away, or in use by another
    process that must not be disturbed: try again), VectorStoreDied, StorageFull, or Permanent. Every call may
    be repeated. Rows that are not named by a call stay as they are. A missing collection has no rows.
    """

    @property
    def place(self) -> str:
        """Where it is, for messages: without user, password or token."""
        ...

    async def ensure(self, collection: ViewCollection) -> None:
        """Create the collection if it is missing. An existing one is not changed.

        Raises SpaceMismatch if it holds vectors of another model or dimension.
        """
        ...

    async def upsert(self, collection: ViewCollection, rows: VectorRows) -> None:
        """Write rows; a row with a known id gets the new vector and text, and only the new metadata.

        Durable on return. Raises VectorStoreUnavailable if the collection is missing.
        """
        ...

    async def labels_with(
        self, collection: ViewCollection, key: str, values: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        """Return the metadata of the rows that have one of these texts under the key, by id."""
        ...

    async def rows(self, collection: ViewCollection, ids: Sequence[str]) -> ViewRows:
        """Return the rows with these ids that are there, in any order."""
        ...

    def labels(
        self, collection: ViewCollection, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], list[Mapping[str, Any]]]]:
        """Yield the ids and the metadata of all rows, in pages. It keeps all ids in memory."""
        ...

    async def delete(self, collection: ViewCollection, ids: Sequence[str]) -> None:
        """Remove rows. A missing row is ignored."""
        ...

    async def forget_deleted(self, collection: ViewCollection) -> None:
        """Have the store drop what it keeps of deleted rows, as `VectorStore.forget_deleted` does."""
        ...

    async def rest(self) -> None:
        """Let go of what other processes wait for. The next call takes it again."""
        ...

    async def close(self) -> None:
        """Release all resources."""
        ...
