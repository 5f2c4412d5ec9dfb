"""Vectors by what was embedded: a text that moves, comes back or must be stored anew costs no model.

One tenant's and one space's only (its collection). The key is a hash of all that the model sees: the token
ids, or the text where it reads that. A row belongs to the document that used it last, and goes when that is
deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Executable, bindparam, delete, func, select, update

from embedfleet.sql import document_lock
from embedfleet.sql.paging import pages
from embedfleet.sql.tables import collections, embeddings, generations
from embedfleet.sql.upsert import upsert

_HASH_BYTES = 16
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class CachedVector:
    """`vector`: float32 LE bytes, as the model gave it. `used_on`: days since 1970."""

    vector: bytes
    document_id: str
    used_on: int

    def array(self) -> NDArray[np.float32]:
        return np.frombuffer(self.vector, dtype="<f4")


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What a document took from the cache (`hits`: what was found there) and can add to it (`fresh`)."""

    collection_id: int
    document_id: str
    hits: Mapping[bytes, CachedVector]
    fresh: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class CacheSize:
    """One collection's share of the cache."""

    collection_id: int
    tenant: str
    rows: int
    row_bytes: int


def content_hashes(
    token_ids: NDArray[np.uint32], lengths: Iterable[int], texts: Sequence[str] | None = None
) -> list[bytes]:
    """One key a text; `token_ids` are concatenated. `texts` for a model that reads them: two that it tells
    apart may be the same tokens of a tokenizer that is not its own."""
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
    return int(now // _SECONDS_A_DAY)


def collections_of(conn: Connection, generation_ids: Iterable[int]) -> dict[int, int]:
    """By version, the collection that its vectors are in; without the versions that are gone."""
    rows = conn.execute(_COLLECTIONS, {"ids": sorted(set(generation_ids))})
    return {row.generation_id: row.collection_id for row in rows}


def look_up(conn: Connection, collection_id: int, hashes: Sequence[bytes]) -> dict[bytes, CachedVector]:
    """Those of these that the collection has a vector for."""
    found: dict[bytes, CachedVector] = {}
    for some in pages(hashes):
        asked = {"collection": collection_id, "hashes": some}
        for row in conn.execute(_LOOK_UP, asked):
            found[row.content_hash] = CachedVector(row.vector, row.document_id, row.used_on)
    return found


def record_use(conn: Connection, use: CacheUse, now: float) -> None:
    """Keep what is fresh; a hit is noted at most once a day and whenever another document takes it over."""
    document_lock.require(conn, use.document_id)
    day = day_of(now)
    mine = {"collection_id": use.collection_id, "document_id": use.document_id, "used_on": day}
    if use.fresh:
        rows = [mine | {"content_hash": key, "vector": use.fresh[key]} for key in sorted(use.fresh)]
        conn.execute(_keep(conn.dialect.name), rows)
    noted = [
        key
        for key, hit in sorted(use.hits.items())
        if hit.used_on != day or hit.document_id != use.document_id
    ]
    if noted:
        conn.execute(
            _NOTE_USE,
            [
                {"collection": use.collection_id, "key": key, "document": use.document_id, "day": day}
                for key in noted
            ],
        )


def drop_of_document(conn: Connection, document_id: str) -> None:
    """Drop what belongs to a document that is deleted."""
    document_lock.require(conn, document_id)
    conn.execute(delete(embeddings).where(embeddings.c.document_id == document_id))


def sizes(conn: Connection) -> list[CacheSize]:
    """How much each collection has. Counted in an index: no vector is read."""
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
    """Drop so many rows of the collection, those not used for longest first; returns how many there were."""
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
def _keep(dialect: str) -> Executable:
    statement = upsert(dialect, embeddings)
    taken_over = {"document_id": statement.excluded.document_id, "used_on": statement.excluded.used_on}
    return statement.on_conflict_do_update(index_elements=["collection_id", "content_hash"], set_=taken_over)


_COLLECTIONS = select(generations.c.generation_id, generations.c.collection_id).where(
    generations.c.generation_id.in_(bindparam("ids", expanding=True))
)

_LOOK_UP = select(
    embeddings.c.content_hash, embeddings.c.vector, embeddings.c.document_id, embeddings.c.used_on
).where(
    embeddings.c.collection_id == bindparam("collection"),
    embeddings.c.content_hash.in_(bindparam("hashes", expanding=True)),
)

_NOTE_USE = (
    update(embeddings)
    .where(
        embeddings.c.collection_id == bindparam("collection"), embeddings.c.content_hash == bindparam("key")
    )
    .values(document_id=bindparam("document"), used_on=bindparam("day"))
)
