"""How rows lie in LanceDB: one table for each space, whatever the number of its tenants.

A table of its own for each tenant would mean thousands of folders, each with small files to compact, an index
to build and versions to forget. So a table has the rows of all tenants of a space. The column `collection`
says whose a row is, and `key` tells rows apart: two tenants may have the same id.

Both columns are digests. They stand in place of names wherever a statement is written, so no name can change
what a statement means.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedfleet.vectors.port import CollectionKey, Metadata, VectorRows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

MARK_TABLE = "embedfleet-system"
"""The table that holds the mark of the system. The tables of spaces end with a digest."""
SPACES_TABLE = "embedfleet-spaces"
"""The table that holds the names of the spaces."""

_PLAIN_SPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# 128 bits: no two names of one table ever share a digest by chance.
_DIGEST_BYTES = 16
# Lance then refuses a commit that inserts a key which another process has inserted since this one looked.
_UNIQUE = {b"lance-schema:unenforced-primary-key": b"true"}


def table_name(space: str) -> str:
    """Return the name of the table of a space. No release may change it."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", space)[:64]
    readable = readable if _PLAIN_SPACE.fullmatch(readable) else "space"
    return f"{readable}-{_digest(space)}"


def collection_digest(tenant: str) -> str:
    """Return what stands in `collection` of the rows of a tenant. No release may change it."""
    return _digest(tenant)


def key_digest(collection: str, row_id: str) -> str:
    """Return the key of a row. `collection` is the digest of its tenant. No release may change it."""
    return _digest(collection + row_id)  # all digests are of one length, so it is plain where the id begins


def label_digest(name: str, text: str) -> int:
    """Return what stands in `labels` for a text under a key of the metadata: an int64.

    Two labels may have the same digest, so a row that is found by one is looked at.
    """
    identity = f"{len(name)}:{name}{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big", signed=True)


def table_schema(dim: int) -> pa.Schema:
    """Return the columns of a table of vectors of `dim` dimensions. `metadata` is an object as JSON."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False, metadata=_UNIQUE),
            pa.field("collection", pa.string(), nullable=False),
            pa.field("tenant", pa.string(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
            pa.field("text", pa.string()),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field("labels", pa.list_(pa.int64()), nullable=False),
        ]
    )


def table_of(collection: CollectionKey, rows: VectorRows, texts: Sequence[str | None] | None) -> pa.Table:
    """Return rows as they lie in the table. Of an id given twice, only the last row is in it.

    `texts` are those that are written: one for each row, or None for no text. Raises UnicodeEncodeError for a
    text with lone surrogates.
    """
    import pyarrow as pa

    mine = collection_digest(collection.tenant)
    latest = {row_id: place for place, row_id in enumerate(rows.ids)}
    places = list(latest.values())
    chosen = rows.vectors if len(places) == len(rows.ids) else rows.vectors[places]
    metadatas = [rows.metadatas[place] for place in places]
    return pa.Table.from_arrays(
        [
            pa.array([key_digest(mine, row_id) for row_id in latest], pa.string()),
            pa.array([mine] * len(places), pa.string()),
            pa.array([collection.tenant] * len(places), pa.string()),
            pa.array(list(latest), pa.string()),
            vector_array(chosen),
            pa.array([None if texts is None else texts[place] for place in places], pa.string()),
            *metadata_arrays(metadatas),
        ],
        schema=table_schema(collection.dim),
    )


def metadata_arrays(metadatas: Sequence[Metadata]) -> tuple[pa.Array, pa.Array]:
    """Return the columns `metadata` and `labels`."""
    import pyarrow as pa

    return (
        pa.array([json.dumps(one, ensure_ascii=False) for one in metadatas], pa.string()),
        pa.array([_labels(one) for one in metadatas], pa.list_(pa.int64())),
    )


def vector_array(vectors: NDArray[np.float32]) -> pa.Array:
    """Return a column of vectors of float32 (n, dim). No vector is changed."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def vectors_of(column: pa.ChunkedArray, dim: int) -> NDArray[np.float32]:
    """Return float32 (n, dim): the vectors of a column."""
    import numpy as np

    if not len(column):
        return np.empty((0, dim), dtype=np.float32)
    found: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return found.reshape(-1, dim)


def text_under(metadata: str, name: str) -> Any:
    """Return what a row's metadata, as JSON, has under a key; None if it has nothing there."""
    held: Mapping[str, Any] = json.loads(metadata)
    return held.get(name)


def _labels(metadata: Metadata) -> list[int]:
    return [label_digest(name, value) for name, value in metadata.items() if isinstance(value, str)]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
