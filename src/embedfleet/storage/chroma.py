"""Chroma in process: one directory, one owner, one thread.

Chroma is thread-safe but two processes writing one directory corrupt it, so whoever opens a store
holds the `DataDirectoryLock`. Its calls block, so they all run on one thread the store owns.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from embedfleet.errors import (
    ConfigError,
    EmbedfleetError,
    InvalidRequest,
    Permanent,
    SpaceMismatch,
    StorageFull,
    VectorStoreUnavailable,
)
from embedfleet.storage.vector_store import Hit, Metadata, VectorRows, VectorStore

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Chroma hides why a write failed ("Failed to apply logs to the metadata segment"), so the file system
# is asked instead: less room than one large batch with its write-ahead log needs means the disk is full.
_FULL_BELOW_BYTES = 16 * 2**20

# HTTP codes that Chroma gives its errors: 404, a collection dropped between two calls; 429, too busy.
_WORTH_RETRYING = (404, 429)


class ChromaVectorStore(VectorStore):
    """The embedded store. Cancelling a call stops the waiting, not the write."""

    def __init__(self, directory: Path, thread: ThreadPoolExecutor, chroma: _BlockingChroma) -> None:
        self._directory = directory
        self._thread = thread
        self._chroma = chroma
        self._closed = False

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Open or create the store. The caller owns the data directory until `close` has returned.

        Raises ConfigError if the directory cannot be made, VectorStoreUnavailable if its content
        cannot be opened.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        try:
            chroma = await _on(thread, directory, _BlockingChroma, directory)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(directory, thread, chroma)

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        await self._run(self._chroma.ensure_collection, name, space, dim)

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        await self._run(self._chroma.upsert, collection, rows)

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        await self._run(self._chroma.update_metadata, collection, ids, metadatas)

    async def existing(self, collection: str, ids: Sequence[str]) -> set[str]:
        return await self._run(self._chroma.existing, collection, ids)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        await self._run(self._chroma.delete, collection, ids)

    async def query(
        self, collection: str, vector: NDArray[np.float32], *, space: str, limit: int
    ) -> list[Hit]:
        return await self._run(self._chroma.query, collection, vector, space, limit)

    async def scan(
        self, collection: str, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        # The ids first, then pages by id: an offset would skip rows when others are deleted meanwhile.
        for part in _parts(await self._run(self._chroma.all_ids, collection), page):
            ids, vectors = await self._run(self._chroma.vectors, collection, part)
            if ids:
                yield ids, vectors

    async def count(self, collection: str) -> int:
        return await self._run(self._chroma.count, collection)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await _on(self._thread, self._directory, self._chroma.close)
            self._thread.shutdown()

    async def _run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store in {self._directory} is closed")
        return await _on(self._thread, self._directory, call, *args, **kwargs)


class _BlockingChroma:
    """The same operations, blocking, in Chroma's terms. Lists longer than it takes at once are split."""

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
        for ids in _parts(list(latest), self._max_rows):
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
        for part in _parts(list(wanted), self._max_rows):
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
        for part in _parts(ids, self._max_rows):
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
        return _parts(list(dict.fromkeys(ids)), self._max_rows)

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


def _parts(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


async def _on(
    thread: ThreadPoolExecutor, directory: Path, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Run a blocking call on the store's thread, its errors mapped to ours."""

    def mapped() -> _T:
        try:
            return call(*args, **kwargs)
        except EmbedfleetError:
            raise
        except BaseException as exc:
            raise _as_ours(exc, directory) from exc

    return await asyncio.get_running_loop().run_in_executor(thread, mapped)


def _as_ours(exc: BaseException, directory: Path) -> BaseException:
    """The error of our tree that tells what to do about `exc`; anything that is no Chroma error unchanged."""
    from chromadb.errors import ChromaError

    text = " ".join(str(exc).split())
    refused = isinstance(exc, ValueError | TypeError) or (
        isinstance(exc, ChromaError) and exc.code() < 500 and exc.code() not in _WORTH_RETRYING
    )
    if refused:
        return Permanent(f"the vector store refuses this: {text}")
    # A panic of Chroma's Rust core is a BaseException of a class that cannot be imported.
    if not (isinstance(exc, ChromaError | OSError) or type(exc).__name__ == "PanicException"):
        return exc
    if _disk_full(exc, directory):
        return StorageFull(
            f"no space left for vectors in {directory}: free some, nothing needs repair ({text})"
        )
    return VectorStoreUnavailable(f"the vector store in {directory} failed: {text}")


def _disk_full(exc: BaseException, directory: Path) -> bool:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(directory).free < _FULL_BELOW_BYTES
    except OSError:  # the directory itself is gone
        return False
