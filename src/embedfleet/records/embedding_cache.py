"""The embedding cache keeps vectors by their text.

So the model need not run again for a text that moves, comes back or must be stored again. Each collection,
that is each tenant and space, has its own cache, so no tenant gets the vectors of another. The key is a hash
of the model's whole input: the token ids, or the text if the model reads texts. A row belongs to the document
that used it last, and is deleted with that document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Executable, delete, func, select

from embedfleet.sql import document_lock
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.tables import collections, embeddings
from embedfleet.sql.upsert import upsert

_HASH_BYTES = 16
_SECONDS_PER_DAY = 86_400

CacheKey = tuple[int, bytes]
"""The key of a row: the id of the collection and the hash of the content."""


@dataclass(frozen=True, slots=True)
class CachedVector:
    """A row of the cache.

    `vector` is the model's result as little-endian float32 bytes. `used_on` is the day of the last use, in
    days since 1970.
    """

    vector: bytes
    document_id: str
    used_on: int

    def array(self) -> NDArray[np.float32]:
        return np.frombuffer(self.vector, dtype="<f4")


@dataclass(frozen=True, slots=True)
class CacheUse:
    """One use of the cache by a document, by content hash.

    `hits` are the vectors that the cache had. `fresh` are the vectors that the model made and that the cache
    should keep.
    """

    collection_id: int
    document_id: str
    hits: Mapping[bytes, CachedVector]
    fresh: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The number of cache rows of a collection, and the size of one vector in bytes."""

    collection_id: int
    tenant: str
    rows: int
    row_bytes: int


def content_hashes(
    token_ids: NDArray[np.uint32], lengths: Iterable[int], texts: Sequence[str] | None = None
) -> list[bytes]:
    """Return one key for each text.

    `token_ids` holds the ids of all texts, one text after the other; `lengths` is the number of ids of each.
    For a model that reads texts, pass `texts` too. The tokens are then not the model's own, so two texts that
    the model tells apart may have the same tokens.
    """
    if texts is not None:
        return [hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest() for text in texts]
    packed = np.ascontiguousarray(token_ids, dtype="<u4").tobytes()
    keys: list[bytes] = []
    start = 0
    for length in lengths:
        end = start + 4 * int(length)
        keys.append(hashlib.blake2b(packed[start:end], digest_size=_HASH_BYTES).digest())
        start = end
    return keys


def day_of(now: float) -> int:
    """Return the day of a Unix time, in days since 1970."""
    return int(now // _SECONDS_PER_DAY)


def collections_of(conn: Connection, generation_ids: Iterable[int]) -> dict[int, int]:
    """Return the collection id of each generation, by generation id. Missing generations are left out."""
    return dict(_COLLECTIONS.run(conn, [(number,) for number in sorted(set(generation_ids))]))


def look_up(conn: Connection, keys: Iterable[CacheKey]) -> dict[CacheKey, CachedVector]:
    """Return the cached vectors of these keys. Unknown keys are left out."""
    rows = _LOOK_UP.run(conn, sorted(set(keys)))
    return {(collection_id, key): CachedVector(*found) for collection_id, key, *found in rows}


def record_uses(conn: Connection, uses: Sequence[CacheUse], now: float) -> None:
    """Add the fresh vectors, and update the documents and the day of use of the hits.

    A hit is written only if its document or its day changes. So one document writes it at most once a day. It
    is written with its vector: the document that had it may have been deleted since the look-up, and its rows
    with it.
    """
    day = day_of(now)
    rows: list[dict[str, Any]] = []
    for use in uses:
        document_lock.require(conn, use.document_id)
        row = {"collection_id": use.collection_id, "document_id": use.document_id, "used_on": day}
        rows += (row | {"content_hash": key, "vector": vector} for key, vector in use.fresh.items())
        rows += (
            row | {"content_hash": key, "vector": hit.vector}
            for key, hit in use.hits.items()
            if hit.used_on != day or hit.document_id != use.document_id
        )
    if rows:
        # The keys are sorted: transactions that lock rows in the same order rarely deadlock.
        rows.sort(key=lambda row: (row["collection_id"], row["content_hash"]))
        conn.execute(_upsert(conn.dialect.name), rows)


def drop_of_document(conn: Connection, document_id: str) -> None:
    """Drop the cached vectors of a deleted document."""
    document_lock.require(conn, document_id)
    conn.execute(delete(embeddings).where(embeddings.c.document_id == document_id))


def sizes(conn: Connection) -> list[CacheSize]:
    """Return the size of every collection's cache. It counts in an index and reads no vector."""
    counted = (
        select(embeddings.c.collection_id, func.count().label("rows"))
        .group_by(embeddings.c.collection_id)
        .subquery()
    )
    query = select(counted, collections.c.tenant, collections.c.dim).join(
        collections, collections.c.collection_id == counted.c.collection_id
    )
    return [
        CacheSize(row.collection_id, row.tenant, int(row.rows), 4 * row.dim) for row in conn.execute(query)
    ]


def drop_oldest(conn: Connection, collection_id: int, rows: int) -> int:
    """Drop up to `rows` rows of the collection, least recently used first. Return how many were dropped."""
    oldest = (
        select(embeddings.c.content_hash)
        .where(embeddings.c.collection_id == collection_id)
        .order_by(embeddings.c.used_on)
        .limit(rows)
    )
    gone = conn.execute(
        delete(embeddings).where(
            embeddings.c.collection_id == collection_id, embeddings.c.content_hash.in_(oldest)
        )
    )
    return gone.rowcount


@cache
def _upsert(dialect: str) -> Executable:
    statement = upsert(dialect, embeddings)
    new_use = {"document_id": statement.excluded.document_id, "used_on": statement.excluded.used_on}
    return statement.on_conflict_do_update(index_elements=["collection_id", "content_hash"], set_=new_use)


_COLLECTIONS = RowsStatement(
    "WITH given(generation_id) AS (VALUES {rows}) "
    "SELECT made.generation_id, made.collection_id "
    "FROM given JOIN generations AS made ON made.generation_id = given.generation_id"
)

# SQLite does a CROSS JOIN from left to right, so it looks each key up in the primary key.
_LOOK_UP = RowsStatement(
    "WITH given(collection_id, content_hash) AS (VALUES {rows}) "
    "SELECT embeddings.collection_id, embeddings.content_hash, embeddings.vector, embeddings.document_id, "
    "embeddings.used_on FROM given CROSS JOIN embeddings "
    "WHERE embeddings.collection_id = given.collection_id AND embeddings.content_hash = given.content_hash"
)
