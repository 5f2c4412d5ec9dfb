"""What the catalogue of a PostgreSQL database says of its tables with vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embedfleet.vectors.source_columns import METADATA_COLUMNS, TEXT_COLUMNS, first_of

if TYPE_CHECKING:
    from psycopg import Connection

_VECTOR_TYPES = ("vector", "halfvec")
_TEXT_TYPES = ("text", "varchar")
_JSON_TYPES = ("json", "jsonb")
_DISTANCES = {"vector_l2_ops": "l2", "vector_cosine_ops": "cosine", "vector_ip_ops": "ip"}
_DISTANCES |= {name.replace("vector", "halfvec"): distance for name, distance in _DISTANCES.items()}
# Where a row is: it tells rows without a key apart, and does not change within a snapshot.
_PLACE_OF_ROW = {"tableoid": "oid", "ctid": "tid"}


@dataclass(frozen=True, slots=True)
class VectorTable:
    """A table with vectors. `dim`: which of its rows are in the collection; None for all of them.

    `key` are the columns that tell its rows apart; `key_type` is the type of a key of one column, otherwise
    None. `others` are the columns of metadata.
    """

    schema: str
    name: str
    collection: str
    vector: str
    key: Sequence[str]
    key_type: str | None
    text: str | None
    json: str | None
    others: Sequence[str]
    distance: str
    comment: str | None
    dim: int | None = None


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table that has vectors, as the catalogue has it. `oid` is of the table."""

    oid: int
    schema: str
    table: str
    comment: str | None
    name: str
    type: str


def functions_schema(connection: Connection[Any]) -> str | None:
    """Return the schema of pgvector's functions; None if the database does not have the extension."""
    found = connection.execute(_EXTENSION).fetchone()
    return None if found is None else str(found[0])


def vector_tables(connection: Connection[Any]) -> Iterator[VectorTable]:
    """Describe the tables with a column of vectors. Two such columns make two collections."""
    keys: dict[int, dict[str, str]] = {}
    for table, column, kind in connection.execute(_KEYS):
        keys.setdefault(table, {})[column] = kind
    distances = {
        (table, column): _DISTANCES[operators]
        for table, column, operators in connection.execute(_INDEXES)
        if operators in _DISTANCES
    }
    columns: dict[int, list[_Column]] = {}
    for row in connection.execute(_COLUMNS):
        columns.setdefault(row[0], []).append(_Column(*row))
    for table, mine in columns.items():
        described = _described(mine, keys.get(table, _PLACE_OF_ROW))
        vectors = [one.name for one in mine if one.type in _VECTOR_TYPES]
        for vector in vectors:
            yield replace(
                described,
                collection=described.collection if len(vectors) == 1 else f"{described.collection}.{vector}",
                vector=vector,
                distance=distances.get((table, vector), ""),
            )


def _described(columns: Sequence[_Column], key: Mapping[str, str]) -> VectorTable:
    """Describe a table without its vectors. `key` has the types of the columns of its key, by name."""
    first = columns[0]
    text = first_of(TEXT_COLUMNS, [one.name for one in columns if one.type in _TEXT_TYPES])
    json = first_of(METADATA_COLUMNS, [one.name for one in columns if one.type in _JSON_TYPES])
    # A key of one column is the id. Columns of a longer one have a meaning of their own.
    told = {text, json, *(key if len(key) == 1 else ())}
    return VectorTable(
        schema=first.schema,
        name=first.table,
        collection=first.table if first.schema == "public" else f"{first.schema}.{first.table}",
        vector="",
        key=list(key),
        key_type=next(iter(key.values())) if len(key) == 1 else None,
        text=text,
        json=json,
        others=[one.name for one in columns if one.type not in _VECTOR_TYPES and one.name not in told],
        distance="",
        comment=first.comment,
    )


# The partitions of a table are read with it. What embedfleet's own store has is no other system's.
_COLUMNS = """
SELECT c.oid, n.nspname, c.relname, obj_description(c.oid, 'pg_class'), a.attname, t.typname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND n.nspname <> 'embedfleet_vectors'
AND has_table_privilege(c.oid, 'SELECT')
AND EXISTS (
  SELECT FROM pg_attribute v JOIN pg_type vt ON vt.oid = v.atttypid
  WHERE v.attrelid = c.oid AND NOT v.attisdropped AND vt.typname IN ('vector', 'halfvec')
)
ORDER BY n.nspname, c.relname, a.attnum
"""

_KEYS = """
SELECT i.indrelid, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indisprimary
ORDER BY i.indrelid, array_position(i.indkey::int2[], a.attnum)
"""

_INDEXES = """
SELECT i.indrelid, a.attname, o.opcname
FROM pg_index i
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
"""

_EXTENSION = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""
