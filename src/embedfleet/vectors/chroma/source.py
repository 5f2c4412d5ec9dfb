"""Chroma as a kind of source (`vectors.registry.SourceKind`): a directory or a server of another system.

A directory is copied, and the copy is opened: a client of Chroma changes files as soon as it opens them, and
brings those of an older release to its own format.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfleet.errors import ConfigError, StorageFull, VectorStoreUnavailable, one_line
from embedfleet.os_lock import OsLock
from embedfleet.paging import pages
from embedfleet.vectors.chroma.clients import open_directory, open_server
from embedfleet.vectors.chroma.errors import embedded_error, server_error
from embedfleet.vectors.server_address import ServerAddress
from embedfleet.vectors.source import LABELS_PAGE, Source, SourceCollection, SourceLabels, SourceRows
from embedfleet.vectors.source_thread import SourceOnThread

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from embedfleet.vectors.chroma.clients import ServerClient

_DATABASE = "chroma.sqlite3"
_TIMEOUT_SECONDS = 60.0
"""A page of rows with vectors takes a server a second or so; a large one that is busy takes longer."""
_COLLECTIONS_AT_ONCE = 100
# A request names the ids of all rows that it wants, and SQLite takes about 30,000 values in a statement.
_ROWS_AT_ONCE = 2_000
_COPY = "source-"
_LOCK = ".lock"


async def open_source(place: str, *, scratch: Path) -> Source:
    """Open a directory of Chroma, or a server if `place` is a URL. `scratch` is where a copy may be made.

    Raises ConfigError if nothing of Chroma is there, VectorStoreUnavailable if it cannot be read now, and
    StorageFull if there is no room for the copy.
    """
    if place.startswith(("http://", "https://")):
        try:
            address = ServerAddress.parse(place, {})
        except ConfigError as exc:
            raise _of_source(exc) from exc
        return await _ServerSource(address).opened()
    return await _DirectorySource(Path(place), scratch).opened()


class _ChromaSource(SourceOnThread):
    """Reads by a client of Chroma."""

    _client: ClientAPI | ServerClient | None = None

    async def collections(self) -> list[SourceCollection]:
        return await self.run(lambda: sorted(self._described(), key=lambda one: one.name))

    async def labels(self, collection: str, *, page: int = LABELS_PAGE) -> AsyncIterator[SourceLabels]:
        # All ids first, then pages by id: with an offset, a row that another system deletes would hide one.
        ids = await self.run(lambda: self._collection(collection).get(include=[])["ids"])
        for part in pages(ids, page):
            found = await self._get(collection, part, ["metadatas"])
            yield SourceLabels(found["ids"], [one or {} for one in found["metadatas"]])

    async def rows(self, collection: str, ids: Sequence[str]) -> SourceRows:
        include = ["metadatas", "documents", "embeddings"]
        found = [await self._get(collection, part, include) for part in pages(list(ids), _ROWS_AT_ONCE)]
        vectors = [np.asarray(one["embeddings"], dtype=np.float32) for one in found if one["ids"]]
        return SourceRows(
            [row_id for one in found for row_id in one["ids"]],
            np.concatenate(vectors) if vectors else np.empty((0, 0), dtype=np.float32),
            [metadata or {} for one in found for metadata in one["metadatas"]],
            [text for one in found for text in one["documents"]],
        )

    async def _get(self, collection: str, ids: Sequence[str], include: list[str]) -> Any:
        wanted: Any = include
        return await self.run(lambda: self._collection(collection).get(ids=list(ids), include=wanted))

    # --- on the thread ---

    def end_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _opened(self) -> ClientAPI | ServerClient:
        assert self._client is not None, "opened by `open_source`"
        return self._client

    def _collection(self, name: str) -> Collection:
        return self._opened().get_collection(name, embedding_function=None)

    def _described(self) -> Iterator[SourceCollection]:
        client = self._opened()
        first = 0
        while found := client.list_collections(limit=_COLLECTIONS_AT_ONCE, offset=first):
            for one in found:
                yield SourceCollection(one.name, one.count(), _distance(one), dict(one.metadata or {}))
            first += len(found)


class _DirectorySource(_ChromaSource):
    """Reads a copy of a directory. The copy is removed at the end."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        super().__init__(str(directory))
        self._directory = directory
        self._scratch = scratch
        self._copy: Path | None = None
        self._lock: OsLock | None = None

    def open_client(self) -> None:
        database = self._directory / _DATABASE
        if not database.is_file():
            raise ConfigError(f"{self._directory} is no directory of Chroma: it has no file {_DATABASE}")
        if not database.stat().st_size:  # SQLite reads it as a database without collections
            raise ConfigError(f"{database} is empty, as a copy is that was interrupted: copy it again")
        _remove_left_copies(self._scratch)
        self._copy = Path(mkdtemp(prefix=_COPY, dir=self._scratch))
        self._lock = OsLock(_lock_of(self._copy))
        self._lock.take()
        before = _states(self._directory)
        _require_room(self._copy, sum(size for size, _ in before.values()))
        shutil.copytree(self._directory, self._copy, dirs_exist_ok=True)
        if _states(self._directory) != before:
            raise VectorStoreUnavailable(
                f"{self._directory} was written while it was copied: stop the system that writes it"
            )
        self._client = open_directory(self._copy)

    def mapped_error(self, exc: BaseException) -> BaseException:
        mapped = embedded_error(exc, self._copy or self._directory)
        if mapped is exc or not isinstance(mapped, VectorStoreUnavailable):
            return mapped
        # The copy is gone when this is read, and a repair of our own store would not help.
        return VectorStoreUnavailable(
            f"{self._directory} cannot be read: is it whole, and may you read it? ({one_line(exc)})"
        )

    def end_client(self) -> None:
        super().end_client()
        if self._copy is not None and self._lock is not None:
            _remove(self._copy, self._lock)
            self._copy = None


class _ServerSource(_ChromaSource):
    """Reads from a server."""

    def __init__(self, address: ServerAddress) -> None:
        super().__init__(address.url)
        self._address = address
        self._opening = True

    def open_client(self) -> None:
        self._client = open_server(self._address, timeout_seconds=_TIMEOUT_SECONDS, connections=1)
        self._opening = False

    def mapped_error(self, exc: BaseException) -> BaseException:
        if not isinstance(exc, Exception):
            return exc
        return _of_source(server_error(exc, self._place, opening=self._opening))


def _of_source(exc: Exception) -> Exception:
    """Return the error without the name of a setting. The address of a source is no setting."""
    if not isinstance(exc, ConfigError):
        return exc
    said = str(exc)
    for setting in ("vector_store.url: ", "vector_store.token: "):
        said = said.replace(setting, "the source: ")
    return ConfigError(said)


def _distance(collection: Collection) -> str:
    """Return what the collection compares vectors with. Old releases kept it in the metadata."""
    configured: Any = collection.configuration_json or {}
    hnsw = configured.get("hnsw") or configured.get("spann") or {}
    return str(hnsw.get("space") or (collection.metadata or {}).get("hnsw:space") or "")


def _lock_of(copy: Path) -> Path:
    return copy.with_name(copy.name + _LOCK)


def _remove_left_copies(scratch: Path) -> None:
    """Remove the copies of processes that were killed. The lock of a copy ends with its process."""
    for lock_file in scratch.glob(f"{_COPY}*{_LOCK}"):
        lock = OsLock(lock_file)
        if lock.take():
            _remove(lock_file.with_name(lock_file.name.removesuffix(_LOCK)), lock)


def _remove(copy: Path, lock: OsLock) -> None:
    """Remove the copy, then its lock. In the other order, a kill in between would leave a copy for ever."""
    shutil.rmtree(copy, ignore_errors=True)
    _lock_of(copy).unlink(missing_ok=True)
    lock.release()


def _states(directory: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of the last change of each file, by its path."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found[str(path.relative_to(directory))] = (stat.st_size, stat.st_mtime_ns)
    return found


def _require_room(where: Path, size: int) -> None:
    free = shutil.disk_usage(where).free
    if free < size:
        raise StorageFull(
            f"a copy of the source takes {size:,} bytes, and {where} has room for {free:,}: free some space"
        )
