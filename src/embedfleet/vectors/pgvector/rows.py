"""The rows of collections: each function is some statements in a transaction of its caller.

A writer keeps the collection in its tables until its transaction ends (`schema.lock_shared`). A reader has a
snapshot: in it, the rows are in the tables that the entry names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import Permanent, SpaceMismatch, VectorStoreUnavailable
from embedfleet.paging import pages
from embedfleet.vectors.pgvector.schema import SCHEMA, Entry, Extension, Run, add, find, lock_shared
from embedfleet.vectors.pgvector.wire import (
    VectorArray,
    exact_id,
    read_vectors,
    stored_metadata,
    stored_text,
)
from embedfleet.vectors.port import CollectionKey, Metadata, VectorRows

# Rows of one statement. Larger ones are hardly quicker, and a parameter may have a gigabyte at most.
_ROWS_PER_STATEMENT = 2_000
# A collection with this many rows gets tables of its own, and an index. Up to there a comparison with each
# row takes some milliseconds, as long as a search by an index.
CROWDED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as they go into the statements: each id once, in order, so that all writers lock in that order.

    `vectors`: float32 (n, dim). `documents` has None where a text that was stored earlier stays.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[str]
    documents: Sequence[str | None]

    def chosen(self, ids: Set[str]) -> EncodedRows:
        """Return the rows of these ids."""
        places = [place for place, row_id in enumerate(self.ids) if row_id in ids]
        if len(places) == len(self.ids):
            return self
        return EncodedRows(
            [self.ids[place] for place in places],
            self.vectors[places],
            [self.metadatas[place] for place in places],
            [self.documents[place] for place in places],
        )


def encoded(rows: VectorRows) -> tuple[EncodedRows, dict[str, str]]:
    """Encode rows; of an id given twice the last one counts.

    Returns too, by id, why other rows cannot be held.
    """
    latest = {row_id: place for place, row_id in enumerate(rows.ids)}
    refused: dict[str, str] = {}
    ids: list[str] = []
    metadatas: list[str] = []
    documents: list[str | None] = []
    for row_id, place in sorted(latest.items()):
        try:
            held_id = exact_id(row_id)
            metadata = stored_metadata(rows.metadatas[place])
            document = None if rows.documents is None else stored_text(rows.documents[place])
        except Permanent as exc:
            refused[row_id] = str(exc)
            continue
        ids.append(held_id)
        metadatas.append(metadata)
        documents.append(document)
    return EncodedRows(ids, rows.vectors[[latest[row_id] for row_id in ids]], metadatas, documents), refused


def ensure(run: Run, collection: CollectionKey) -> None:
    entry = find(run, collection)
    if entry is None:
        add(run, collection)
        entry = find(run, collection)
    if entry is None:
        raise VectorStoreUnavailable("the collection was dropped at this moment: try again")
    require_dim(entry, collection.dim)


def write(
    run: Run, extension: Extension, collection: CollectionKey, rows: EncodedRows
) -> tuple[list[str], NDArray[np.float32]]:
    """Write the rows. Return their ids and vectors as they were stored: float32 (n, dim)."""
    entry = _entry_to_change(run, collection)
    if entry is None:
        raise VectorStoreUnavailable("the collection is not there: ensure it, then write again")
    require_dim(entry, rows.vectors.shape[1])
    ids: list[str] = []
    sent: list[bytes] = []
    for places in pages(range(len(rows.ids)), _ROWS_PER_STATEMENT):
        part = slice(places[0], places[-1] + 1)
        stored = run(
            f"INSERT INTO {entry.vectors} (collection, id, vector) "
            f"SELECT %s, given.id, given.vector FROM unnest(%b::text[], %b::{extension.vector}[]) "
            "AS given (id, vector) "
            # A number of its own for each write: the row leaves the index that has its old vector.
            "ON CONFLICT (collection, id) DO UPDATE SET vector = excluded.vector, seq = excluded.seq "
            f"RETURNING id, {extension.schema}.vector_send(vector)",
            (entry.number, rows.ids[part], VectorArray.of(rows.vectors[part], extension.vector_oid)),
        )
        ids += [row[0] for row in stored]
        sent += [row[1] for row in stored]
        run(
            f"INSERT INTO {entry.texts} AS held (collection, id, metadata, document) "
            "SELECT %s, given.id, given.metadata, given.document "
            "FROM unnest(%b::text[], %b::text[]::jsonb[], %b::text[]) AS given (id, metadata, document) "
            "ON CONFLICT (collection, id) DO UPDATE "
            "SET metadata = excluded.metadata, document = coalesce(excluded.document, held.document)",
            (entry.number, rows.ids[part], rows.metadatas[part], rows.documents[part]),
        )
    return ids, read_vectors(sent, entry.dim)


def note_growth(run: Run, collection: CollectionKey) -> None:
    """Note that the collection needs tables of its own, if it has grown and this was not noted before."""
    entry = find(run, collection)
    if entry is not None and not entry.own_tables:
        run(
            f"UPDATE {SCHEMA}.collections SET crowded = true WHERE number = %s AND NOT crowded AND %s = "
            f"(SELECT count(*) FROM (SELECT FROM {SCHEMA}.vectors WHERE collection = %s LIMIT %s) AS first)",
            (entry.number, CROWDED_ROWS, entry.number, CROWDED_ROWS),
        )


def update_metadata(
    run: Run, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
) -> None:
    entry = _entry_to_change(run, collection)
    if entry is None:
        return
    wanted = dict(zip(ids, metadatas, strict=True))
    for part in pages(sorted(wanted), _ROWS_PER_STATEMENT):
        run(
            f"UPDATE {entry.texts} AS held SET metadata = given.metadata "
            "FROM unnest(%b::text[], %b::text[]::jsonb[]) AS given (id, metadata) "
            "WHERE held.collection = %s AND held.id = given.id",
            (part, [stored_metadata(wanted[row_id]) for row_id in part], entry.number),
        )


def vectors(
    run: Run, extension: Extension, collection: CollectionKey, ids: Iterable[str]
) -> tuple[list[str], NDArray[np.float32]]:
    entry = find(run, collection)
    if entry is None:
        return [], np.empty((0, collection.dim), dtype=np.float32)
    found: list[tuple[str, bytes]] = []
    for part in pages(list(dict.fromkeys(ids)), _ROWS_PER_STATEMENT):
        found += run(
            f"SELECT id, {extension.schema}.vector_send(vector) FROM {entry.vectors} "
            "WHERE collection = %s AND id = ANY(%b::text[])",
            (entry.number, part),
        )
    return [row[0] for row in found], read_vectors([row[1] for row in found], entry.dim)


def page_after(
    run: Run, extension: Extension, collection: CollectionKey, last: str | None, limit: int
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the first rows by id, or those after the id `last`."""
    entry = find(run, collection)
    if entry is None:
        return [], np.empty((0, collection.dim), dtype=np.float32)
    after = "" if last is None else "AND id > %s "
    found = run(
        f"SELECT id, {extension.schema}.vector_send(vector) FROM {entry.vectors} "
        f"WHERE collection = %s {after}ORDER BY id LIMIT %s",
        (entry.number, limit) if last is None else (entry.number, last, limit),
    )
    return [row[0] for row in found], read_vectors([row[1] for row in found], entry.dim)


def ids_with(run: Run, collection: CollectionKey, key: str, values: Sequence[str]) -> Mapping[str, list[str]]:
    entry = find(run, collection)
    found: dict[str, list[str]] = {}
    if entry is None:
        return found
    for part in pages(list(dict.fromkeys(values)), _ROWS_PER_STATEMENT):
        rows = run(
            f"SELECT metadata ->> %s, id FROM {entry.texts} WHERE collection = %s "
            # A number has the text of its digits too.
            "AND metadata ->> %s = ANY(%b::text[]) AND jsonb_typeof(metadata -> %s) = 'string'",
            (stored_text(key), entry.number, stored_text(key), part, stored_text(key)),
        )
        for text, row_id in rows:
            found.setdefault(text, []).append(row_id)
    return found


def delete(run: Run, collection: CollectionKey, ids: Sequence[str]) -> None:
    entry = _entry_to_change(run, collection)
    if entry is not None:
        for part in pages(sorted(set(ids)), _ROWS_PER_STATEMENT):
            for table in (entry.vectors, entry.texts):
                run(
                    f"DELETE FROM {table} WHERE collection = %s AND id = ANY(%b::text[])",
                    (entry.number, part),
                )


def count(run: Run, collection: CollectionKey) -> int:
    entry = find(run, collection)
    if entry is None:
        return 0
    [(number,)] = run(f"SELECT count(*) FROM {entry.vectors} WHERE collection = %s", (entry.number,))
    return int(number)


def mark(run: Run) -> str | None:
    found = run(f"SELECT mark FROM {SCHEMA}.mark", ())
    return str(found[0][0]) if found else None


def claim_mark(run: Run, new: str, replacing: str | None) -> str:
    if replacing is not None:
        run(f"UPDATE {SCHEMA}.mark SET mark = %s WHERE mark = %s", (new, replacing))
    run(f"INSERT INTO {SCHEMA}.mark (mark) VALUES (%s) ON CONFLICT DO NOTHING", (new,))
    # A statement of its own: it sees what another process has committed while the one before waited.
    held = mark(run)
    assert held is not None, "it is never removed alone"
    return held


def require_dim(entry: Entry, dim: int) -> None:
    """Raise SpaceMismatch unless the collection has vectors of this dimension."""
    if entry.dim != dim:
        raise SpaceMismatch(
            f"collection {entry.number} of {SCHEMA} holds vectors of {entry.dim} dimensions, not {dim}"
        )


def _entry_to_change(run: Run, collection: CollectionKey) -> Entry | None:
    lock_shared(run, collection)
    return find(run, collection)
