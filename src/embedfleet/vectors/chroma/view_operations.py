"""The operations of a view as blocking calls of Chroma's client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import SpaceMismatch, VectorStoreUnavailable
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.port import VectorRows


class ChromaViewCollections(ChromaCollections):
    """The methods of `ViewStore` besides those of a store. It expects nothing of a collection's metadata."""

    def ensure_view(
        self, name: str, dim: int, distance: str, metadata: Mapping[str, Any], fixed: Sequence[str]
    ) -> None:
        found = self.find(name)
        if found is None:
            found = self._client.get_or_create_collection(
                name,
                metadata=dict(metadata),
                configuration={"hnsw": {"space": distance}},
                embedding_function=None,
            )
        held: Mapping[str, Any] = found.metadata or {}
        for key in fixed:
            if key in held and held[key] != metadata[key]:
                raise SpaceMismatch(
                    f"collection {name} says that its `{key}` is `{held[key]}`, not `{metadata[key]}`: its "
                    "vectors are of another model, so empty it or name another collection"
                )
        # Chroma fixes the dimension with the first row, and no call tells it.
        row = found.get(limit=1, include=["embeddings"])["embeddings"]
        if row is not None and len(row) and len(row[0]) != dim:
            raise SpaceMismatch(
                f"collection {name} holds vectors of {len(row[0])} dimensions, not {dim}: empty it or name "
                "another collection"
            )

    def upsert_view(self, name: str, rows: VectorRows) -> None:
        found = self.find(name)
        if found is None:
            raise VectorStoreUnavailable(f"collection {name} is not there: ensure it, then write again")
        self.write_rows(found, rows)

    def labels_with(self, name: str, key: str, values: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the metadata of the rows that have one of these texts under the key, by id."""
        collection = self.find(name)
        found: dict[str, dict[str, Any]] = {}
        for part in self.distinct_parts(values if collection is not None else ()):
            assert collection is not None
            rows = collection.get(where={key: {"$in": list(part)}}, include=["metadatas"])
            found.update(zip(rows["ids"], map(dict, rows["metadatas"]), strict=True))
        return found

    def view_rows(
        self, name: str, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32], list[dict[str, Any]], list[str | None]]:
        """Return the ids that have a row, and their vectors, metadata and texts."""
        found = self.find(name)
        kept: list[str] = []
        vectors: list[Any] = []
        metadatas: list[dict[str, Any]] = []
        texts: list[str | None] = []
        for part in self.distinct_parts(ids if found is not None else ()):
            assert found is not None
            page = found.get(ids=part, include=["embeddings", "metadatas", "documents"])
            kept += page["ids"]
            vectors += list(page["embeddings"])
            metadatas += [dict(one or {}) for one in page["metadatas"]]
            texts += page["documents"]
        dim = len(vectors[0]) if vectors else 0
        return kept, np.asarray(vectors, dtype=np.float32).reshape(len(kept), dim), metadatas, texts

    def view_metadatas(self, name: str, ids: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the ids that have a row, and their metadata."""
        found = self.find(name)
        if found is None:
            return [], []
        page = found.get(ids=list(ids), include=["metadatas"])
        return list(page["ids"]), [dict(one or {}) for one in page["metadatas"]]
