"""Chroma's collections in one directory, by blocking calls from one thread.

chromadb is imported when the first of these is made: it takes a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from embedfleet.errors import ConfigError, InvalidRequest, SpaceMismatch, VectorStoreUnavailable
from embedfleet.storage.vector_store import Hit, Metadata, VectorRows

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection


class ChromaCollections:
    """`VectorStore` in Chroma's own calls; what is longer than it takes at once is split.

    Raises chromadb's errors beside ours; `chroma_errors` maps them.
    """

    def __init__(self, directory: Path) -> None:
        self._client = _open_client(directory)
        self._max_rows: int = self._client.get_max_batch_size()

    def close(self) -> None:
        self._client.close()

    def ensure_collection(self, name: str, space: str, dim: int) -> None:
        collection = self._client.get_or_create_collection(
            name,
            metadata={"space": space, "dim": dim},
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
        )
        _require_space(collection, space)
        _require_dim(collection, dim)

    def upsert(self, name: str, rows: VectorRows) -> None:
        collection = self._find(name)
        if collection is None:
            raise VectorStoreUnavailable(f"collection {name} is not there: ensure it, then write again")
        _require_dim(collection, rows.vectors.shape[1])
        latest = {row_id: position for position, row_id in enumerate(rows.ids)}
        for ids in parts(list(latest), self._max_rows):
            chosen = [latest[row_id] for row_id in ids]
            collection.upsert(
                ids=ids,
                embeddings=rows.vectors[chosen],
                metadatas=self._replacements(collection, ids, [rows.metadatas[i] for i in chosen]),
                documents=None if rows.documents is None else [rows.documents[i] for i in chosen],
            )

    def update_metadata(self, name: str, ids: Sequence[str], metadatas: Sequence[Metadata]) -> None:
        collection = self._find(name)
        if collection is None:
            return
        wanted = dict(zip(ids, metadatas, strict=True))
        for part in parts(list(wanted), self._max_rows):
            collection.update(
                ids=part,
                metadatas=self._replacements(collection, part, [wanted[row_id] for row_id in part]),
            )

    def existing(self, name: str, ids: Sequence[str]) -> set[str]:
        collection = self._find(name)
        if collection is None:
            return set()
        found: set[str] = set()
        for part in self._distinct_parts(ids):
            found.update(collection.get(ids=part, include=[])["ids"])
        return found

    def delete(self, name: str, ids: Sequence[str]) -> None:
        collection = self._find(name)
        if collection is not None:
            for part in self._distinct_parts(ids):
                collection.delete(ids=part)

    def query(self, name: str, vector: NDArray[np.float32], space: str, limit: int) -> list[Hit]:
        if limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        if not np.isfinite(vector).all():
            raise InvalidRequest("the query vector holds a value that is not finite")
        collection = self._find(name)
        if collection is None:
            return []
        _require_space(collection, space)
        _require_dim(collection, len(vector))
        answer = collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
        # Rounding takes a distance slightly below 0: a cosine is never above 1.
        return [
            Hit(row_id, max(-1.0, min(1.0, 1.0 - distance)))
            for row_id, distance in zip(answer["ids"][0], answer["distances"][0], strict=True)
        ]

    def all_ids(self, name: str) -> list[str]:
        collection = self._find(name)
        return [] if collection is None else list(collection.get(include=[])["ids"])

    def vectors(self, name: str, ids: list[str]) -> tuple[list[str], NDArray[np.float32]]:
        """The rows of these that are still there."""
        collection = self._find(name)
        if collection is None:
            return [], np.empty((0, 0), dtype=np.float32)
        found_ids: list[str] = []
        pages: list[NDArray[np.float32]] = []
        for part in parts(ids, self._max_rows):
            found = collection.get(ids=part, include=["embeddings"])
            found_ids.extend(found["ids"])
            pages.append(np.asarray(found["embeddings"], dtype=np.float32))
        return found_ids, np.concatenate(pages)

    def count(self, name: str) -> int:
        collection = self._find(name)
        return 0 if collection is None else int(collection.count())

    def _find(self, name: str) -> Collection | None:
        from chromadb.errors import NotFoundError

        try:
            return self._client.get_collection(name, embedding_function=None)
        except NotFoundError:
            return None

    def _distinct_parts(self, ids: Sequence[str]) -> Iterator[list[str]]:
        return parts(list(dict.fromkeys(ids)), self._max_rows)

    def _replacements(
        self, collection: Collection, ids: list[str], metadatas: list[Metadata]
    ) -> list[dict[str, Any] | None]:
        """Metadata that leaves nothing of the rows' old one: Chroma merges keys, and None removes one."""
        found = collection.get(ids=ids, include=["metadatas"])
        old = dict(zip(found["ids"], found["metadatas"], strict=True))
        merged = [
            dict.fromkeys(old.get(row_id) or ()) | dict(new)
            for row_id, new in zip(ids, metadatas, strict=True)
        ]
        return [metadata or None for metadata in merged]  # Chroma refuses an empty one


def _open_client(directory: Path) -> ClientAPI:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot make {directory} ({exc.strerror or exc}): choose a writable one"
        ) from exc
    try:
        from chromadb.api import ServerAPI
        from chromadb.api.client import Client
        from chromadb.config import Settings, System
    except ValidationError as exc:  # importing chromadb reads the environment and `.env`
        problem = exc.errors()[0]
        name = str(problem["loc"][0]).upper()
        raise ConfigError(
            f"environment or .env: Chroma cannot read {name} ({problem['msg']}): correct or unset it"
        ) from exc

    class OnlyTheseSettings(Settings):  # type: ignore[misc]  # chromadb is untyped here
        """Chroma's, without the environment and the `.env` of whatever directory we run in."""

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type, init_settings: Any, **others: Any
        ) -> tuple[Any, ...]:
            return (init_settings,)

    settings = OnlyTheseSettings(
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        is_persistent=True,
        persist_directory=str(directory),
        anonymized_telemetry=False,
    )
    # Not PersistentClient: when that fails, the broken system stays in a global cache under this path.
    system = System(settings)
    system.instance(ServerAPI)
    system.start()
    return Client.from_system(system)


def _require_space(collection: Collection, space: str) -> None:
    held = (collection.metadata or {}).get("space")
    if held != space:
        raise SpaceMismatch(
            f"collection {collection.name} holds vectors of {held}, not of {space}: "
            "use the model it was made with"
        )


def _require_dim(collection: Collection, dim: int) -> None:
    held = (collection.metadata or {}).get("dim")
    if held != dim:
        raise SpaceMismatch(f"collection {collection.name} holds vectors of {held} dimensions, not {dim}")


def parts(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
