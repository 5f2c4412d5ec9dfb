"""Tables that another system left in PostgreSQL with pgvector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from support.foreign_chroma import ForeignCollection

_OPERATORS = {"l2": "vector_l2_ops", "cosine": "vector_cosine_ops", "ip": "vector_ip_ops"}


def write_tables(url: str, collections: Sequence[ForeignCollection]) -> None:
    """Write a table for each collection: an id, a vector, a text, and metadata as JSON."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        for one in collections:
            _write(connection, one)


def _write(connection: psycopg.Connection[tuple[object, ...]], collection: ForeignCollection) -> None:
    table = sql.Identifier(collection.name)
    rows = collection.rows
    dim = rows.vectors.shape[1] or 3
    columns: LiteralString = "(id text PRIMARY KEY, embedding vector({}), document text, metadata jsonb)"
    connection.execute(sql.SQL("CREATE TABLE {} " + columns).format(table, dim))
    for place, (row_id, vector, metadata) in enumerate(
        zip(rows.ids, rows.vectors, rows.metadatas, strict=True)
    ):
        text = None if rows.texts is None else rows.texts[place]
        written = None if metadata is None else json.dumps(dict(metadata))
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s)").format(table),
            [row_id, str(vector.tolist()), text, written],
        )
    operators = sql.SQL(_OPERATORS[collection.distance])
    connection.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (embedding {})").format(table, operators))
    comment = sql.Literal(collection.metadata.get("source_model_id"))  # it has one note of a table
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, comment))
