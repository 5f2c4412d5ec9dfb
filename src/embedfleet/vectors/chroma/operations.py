"""The operations of a vector store as blocking calls of Chroma's client, in this process or on a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest, Permanent, SpaceMismatch, VectorStoreUnavailable
from embedfleet.paging import pages
from embedfleet.vectors.chroma.layout import MARK_COLLECTION
from embedfleet.vectors.port import Hit, Metadata, VectorRows

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from embedfleet.vectors.chroma.clients import ServerClient


_MAX_ROW_BYTES = 6 * 2**20
"""The largest row we send. A server closes the connection at 40 MiB, often before it says why, and a text may
take six times its size in JSON: 6 times 6 MiB stays below."""


_WRITES_UNTIL_SYNC = 1_000
"""After this number of writes Chroma writes its index: the default of `sync_threshold`, which we leave."""
_ABSENT_IDS = [f"embedfleet-absent-{number}" for number in range(_WRITES_UNTIL_SYNC + 1)]


class ChromaCollections:
    """The methods of `VectorStore` in Chroma's own calls. A call that is too large for Chroma is split.

    A collection is given by its name in Chroma. Nothing about a collection is kept between calls, because
    another process may drop it and create it again. Several threads may use this object if they may use the
    client, but two writes of one row at the same time may mix their metadata. The methods raise chromadb's
    errors too; `errors` maps them.
    """

    def __init__(self, client: ClientAPI | ServerClient, *, max_write_bytes: int | None = None) -> None:
        """`max_write_bytes` is about the most that one request sends; None for Chroma in this process."""
        self._client = client
        self._max_rows: int = client.get_max_batch_size()
        self._max_write_bytes = max_write_bytes
        self.expects_mark = False
        """Whether the place has a mark, so that without one a missing collection is no sign of no rows."""

    def close(self) -> None:
        self._client.close()

    def ensure_collection(self, name: str, space: str, dim: int) -> None:
        if self.expects_mark:
            self.find(name)  # nothing is created in a place that only stands in for the store
        collection = self._client.get_or_create_collection(
            name,
            metadata={"space": space, "dim": dim},
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
        )
        _require_space(collection, space)
        _require_dim(collection, dim)

    def upsert(self, name: str, rows: VectorRows) -> None:
        collection = self.find(name)
        if collection is None:
            raise VectorStoreUnavailable(f"collection {name} is not there: ensure it, then write again")
        _require_dim(collection, rows.vectors.shape[1])
        self.write_rows(collection, rows)

    def write_rows(self, collection: Collection, rows: VectorRows) -> None:
        """Write rows into a collection that was found to be the right one."""
        latest = {row_id: position for position, row_id in enumerate(rows.ids)}
        for chosen in self._writes(rows, list(latest.values())):
            ids = [rows.ids[i] for i in chosen]
            collection.upsert(
                ids=ids,
                embeddings=rows.vectors[chosen],
                metadatas=self._replacements(collection, ids, [rows.metadatas[i] for i in chosen]),
                documents=None if rows.documents is None else [rows.documents[i] for i in chosen],
            )

    def update_metadata(self, name: str, ids: Sequence[str], metadatas: Sequence[Metadata]) -> None:
        collection = self.find(name)
        if collection is None:
            return
        wanted = dict(zip(ids, metadatas, strict=True))
        for part in pages(list(wanted), self._max_rows):
            collection.update(
                ids=part,
                metadatas=self._replacements(collection, part, [wanted[row_id] for row_id in part]),
            )

    def delete(self, name: str, ids: Sequence[str]) -> None:
        collection = self.find(name)
        if collection is not None:
            for part in self.distinct_parts(ids):
                collection.delete(ids=part)

    def forget_deleted(self, name: str) -> None:
        """Delete enough rows that do not exist for Chroma to write its index and to empty its log.

        Its log has the whole of every write, with the text. It is emptied only after a number of writes, and
        that may be never in a small collection. Chroma has no call for it.
        """
        collection = self.find(name)
        if collection is not None:
            for part in self.distinct_parts(_ABSENT_IDS):
                collection.delete(ids=part)

    def query(self, name: str, vector: NDArray[np.float32], space: str, limit: int) -> list[Hit]:
        if limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        if not np.isfinite(vector).all():
            raise InvalidRequest("the query vector holds a value that is not finite")
        collection = self.find(name)
        if collection is None:
            return []
        _require_space(collection, space)
        _require_dim(collection, len(vector))
        answer = collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
        return [
            Hit.from_distance(row_id, distance)
            for row_id, distance in zip(answer["ids"][0], answer["distances"][0], strict=True)
        ]

    def all_ids(self, name: str) -> list[str]:
        collection = self.find(name)
        return [] if collection is None else list(collection.get(include=[])["ids"])

    def ids_with(self, name: str, key: str, values: Sequence[str]) -> dict[str, list[str]]:
        collection = self.find(name)
        found: dict[str, list[str]] = {}
        if collection is None:
            return found
        for part in self.distinct_parts(values):
            rows = collection.get(where={key: {"$in": list(part)}}, include=["metadatas"])
            for row_id, metadata in zip(rows["ids"], rows["metadatas"] or (), strict=True):
                found.setdefault(str(metadata[key]), []).append(row_id)
        return found

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids among these that have a row, and their vectors."""
        collection = self.find(name)
        if collection is None:
            return [], np.empty((0, 0), dtype=np.float32)
        dim = int((collection.metadata or {}).get("dim", 0))
        found_ids: list[str] = []
        found_vectors = [np.empty((0, dim), dtype=np.float32)]
        for part in self.distinct_parts(ids):
            found = collection.get(ids=part, include=["embeddings"])
            if found["ids"]:
                found_ids.extend(found["ids"])
                found_vectors.append(np.asarray(found["embeddings"], dtype=np.float32))
        return found_ids, np.concatenate(found_vectors)

    def drop_collection(self, name: str) -> None:
        from chromadb.errors import NotFoundError

        try:
            self._client.delete_collection(name)
        except NotFoundError:
            self._require_mark(name)

    def count(self, name: str) -> int:
        collection = self.find(name)
        return 0 if collection is None else int(collection.count())

    def mark(self) -> str | None:
        collection = self.find(MARK_COLLECTION)
        return None if collection is None else str((collection.metadata or {}).get("mark"))

    def claim_mark(self, mark: str, replacing: str | None) -> str:
        if replacing is not None and self.mark() == replacing:
            self.drop_collection(MARK_COLLECTION)
        # Of several callers one creates the collection, and Chroma gives all of them that one.
        self._client.get_or_create_collection(
            MARK_COLLECTION,
            metadata={"mark": mark},
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
        )
        held = self.mark()
        if held is None:  # dropped since, by a caller that replaces the mark
            raise VectorStoreUnavailable("the mark of the vector store changes just now: try again")
        return held

    def find(self, name: str) -> Collection | None:
        """Return the collection; None if there is none of this name."""
        from chromadb.errors import NotFoundError

        try:
            return self._client.get_collection(name, embedding_function=None)
        except NotFoundError:
            self._require_mark(name)
            return None

    def _require_mark(self, missing: str) -> None:
        """Raise VectorStoreUnavailable if the mark of the system should be here and is missing too."""
        if self.expects_mark and missing != MARK_COLLECTION and self.mark() is None:
            raise VectorStoreUnavailable(
                "the vector store has no mark of its system: it was emptied, or another server answers "
                "there now"
            )

    def _writes(self, rows: VectorRows, positions: list[int]) -> Iterator[list[int]]:
        """Yield the positions of rows in parts that are small enough for one write. A row is never split.

        Raises Permanent for a row that is too large by itself.
        """
        if self._max_write_bytes is None:
            yield from pages(positions, self._max_rows)
            return
        part: list[int] = []
        part_bytes = 0
        for position in positions:
            row_bytes = _sent_bytes(rows, position)
            if row_bytes > _MAX_ROW_BYTES:
                raise Permanent(
                    f"row {rows.ids[position]} is {row_bytes:,} bytes, more than a Chroma server takes "
                    f"({_MAX_ROW_BYTES:,}): cut it into smaller chunks"
                )
            if part and (len(part) == self._max_rows or part_bytes + row_bytes > self._max_write_bytes):
                yield part
                part, part_bytes = [], 0
            part.append(position)
            part_bytes += row_bytes
        if part:
            yield part

    def distinct_parts(self, ids: Sequence[str]) -> Iterator[list[str]]:
        """Yield the ids, each once, in parts that Chroma takes in one call."""
        return pages(list(dict.fromkeys(ids)), self._max_rows)

    def _replacements(
        self, collection: Collection, ids: list[str], metadatas: list[Metadata]
    ) -> list[dict[str, Any] | None]:
        """Return the metadata to write so that none of the rows' old metadata stays.

        Chroma merges new keys into old ones, and None removes a key: so each old key is set to None first.
        """
        found = collection.get(ids=ids, include=["metadatas"])
        old = dict(zip(found["ids"], found["metadatas"], strict=True))
        merged = [
            dict.fromkeys(old.get(row_id) or ()) | dict(new)
            for row_id, new in zip(ids, metadatas, strict=True)
        ]
        return [metadata or None for metadata in merged]  # Chroma refuses empty metadata


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


def _sent_bytes(rows: VectorRows, position: int) -> int:
    """Estimate the bytes of a row in a request: the vector in base64, the rest as JSON."""
    text = "" if rows.documents is None else rows.documents[position]
    vector_bytes: int = rows.vectors[position].nbytes * 4 // 3
    return vector_bytes + len(text.encode()) + len(repr(rows.metadatas[position]))
