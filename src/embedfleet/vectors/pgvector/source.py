"""pgvector as a kind of source (`vectors.registry.SourceKind`): the tables of a PostgreSQL database.

A table is a collection if it has a column of the type `vector` or `halfvec`. Its primary key is the id of a
row. The text and an object of metadata are in columns with usual names (`vectors.source_columns`). All other
columns are metadata too.

All is read in one read-only transaction, so it is what the database had at one instant, though others write
to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np

from embedfleet.errors import ConfigError, Permanent, VectorStoreUnavailable, one_line
from embedfleet.vectors.pgvector.tables import VectorTable, functions_schema, vector_tables
from embedfleet.vectors.source import LABELS_PAGE, Source, SourceCollection, SourceLabels, SourceRows
from embedfleet.vectors.source_columns import row_metadata
from embedfleet.vectors.source_thread import SourceOnThread

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection, ServerCursor, sql

_SCHEMES = ("postgresql://", "postgres://")
_CONNECT_SECONDS = 10
# Before the vector of `vector_send` is its dimension, in two bytes, and two bytes that are not used.
_HEADER_BYTES = 4


async def open_source(place: str, *, scratch: Path) -> Source:
    """Open a database by its URL. Nothing is copied, so `scratch` is not used.

    A password that is not in the URL comes from where libpq looks: PGPASSWORD, or the file `.pgpass`. Raises
    ConfigError if it is no URL of PostgreSQL, if psycopg is missing, or if no table has vectors;
    VectorStoreUnavailable if it cannot be reached.
    """
    if not place.startswith(_SCHEMES):
        shown = place.rsplit("@", 1)[-1]  # before that a URL may have a password
        raise ConfigError(f"{shown} is no URL of PostgreSQL: give postgresql://USER@HOST/DATABASE")
    try:
        import psycopg
    except ImportError as exc:
        raise ConfigError(
            f"pgvector needs psycopg ({exc}): install the extra `pgvector` of embedfleet"
        ) from exc
    try:
        given = psycopg.conninfo.conninfo_to_dict(place)
    except psycopg.ProgrammingError as exc:
        # The message of libpq may quote the URL, which may have a password.
        raise ConfigError(
            "the URL of PostgreSQL cannot be read: give postgresql://USER@HOST/DATABASE"
        ) from exc
    shown = f"PostgreSQL at {given.get('host', 'localhost')}/{given.get('dbname', '')}"
    return await _PgvectorSource(place, shown).opened()


class _PgvectorSource(SourceOnThread):
    """Reads by one connection, in one transaction."""

    _connection: Connection[Any] | None = None
    _functions: sql.Identifier
    _tables: Mapping[str, tuple[VectorTable, int]]

    def __init__(self, url: str, place: str) -> None:
        super().__init__(place)
        self._url = url
        self._numbers = count()

    async def collections(self) -> list[SourceCollection]:
        return [
            SourceCollection(name, rows, table.distance, {"comment": table.comment} if table.comment else {})
            for name, (table, rows) in sorted(self._tables.items())
        ]

    async def labels(self, collection: str, *, page: int = LABELS_PAGE) -> AsyncIterator[SourceLabels]:
        table = self._tables[collection][0]
        cursor = await self.run(lambda: self._begin_reading(table))
        try:
            while found := await self.run(lambda: cursor.fetchmany(page)):
                yield SourceLabels([row[0] for row in found], [_metadata(table, row[1:]) for row in found])
        finally:
            await self.run(cursor.close)

    async def rows(self, collection: str, ids: Sequence[str]) -> SourceRows:
        table = self._tables[collection][0]
        found = await self.run(lambda: self._rows(table, ids))
        vectors = [np.frombuffer(row[2], dtype=">f4", offset=_HEADER_BYTES) for row in found]
        return SourceRows(
            [row[0] for row in found],
            np.array(vectors, dtype=np.float32).reshape(len(found), -1),
            [_metadata(table, row[3:]) for row in found],
            [row[1] for row in found],
        )

    # --- on the thread ---

    def open_client(self) -> None:
        import psycopg

        self._connection = psycopg.connect(
            self._url, connect_timeout=_CONNECT_SECONDS, application_name="embedfleet"
        )
        # One snapshot for all that is read. The server refuses every write.
        self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        functions = functions_schema(self._connection)
        if functions is None:
            raise ConfigError(f"{self.place} has no extension `vector`: it is no database of pgvector")
        self._functions = psycopg.sql.Identifier(functions)
        self._tables = {table.collection: (table, rows) for table, rows in self._counted()}
        if not self._tables:
            raise ConfigError(f"{self.place} has no table with a column of the type `vector`")

    def end_client(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def mapped_error(self, exc: BaseException) -> BaseException:
        import psycopg

        if isinstance(exc, psycopg.OperationalError):
            return VectorStoreUnavailable(f"the source {self.place} cannot be read now: {one_line(exc)}")
        if isinstance(exc, psycopg.Error):
            return Permanent(f"the source {self.place} cannot be read: {one_line(exc)}")
        return exc

    def _opened(self) -> Connection[Any]:
        assert self._connection is not None, "opened by `open_source`"
        return self._connection

    def _counted(self) -> Iterator[tuple[VectorTable, int]]:
        """Return every collection, and how many rows it has. A table of several dimensions gives several."""
        for table in vector_tables(self._opened()):
            counted = self._opened().execute(
                _statement(
                    "SELECT {functions}.vector_dims({vector}), count(*) FROM {table} "
                    "WHERE {vector} IS NOT NULL GROUP BY 1",
                    self._names(table),
                )
            )
            rows_of = dict(counted.fetchall())
            if len(rows_of) < 2:
                yield table, sum(rows_of.values())
                continue
            for dim, rows in rows_of.items():
                yield replace(table, collection=f"{table.collection}[{dim}]", dim=dim), rows

    def _begin_reading(self, table: VectorTable) -> ServerCursor[Any]:
        # A reader may have left another one unfinished, so each has a name of its own.
        cursor = self._opened().cursor(f"labels_{next(self._numbers)}")
        return cursor.execute(
            _statement("SELECT {id}{metadata} FROM {table} WHERE {mine}", self._names(table))
        )

    def _rows(self, table: VectorTable, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        # A key of one column is compared in its own type, so that its index is used.
        wanted = "{id} = ANY(%s)" if table.key_type is None else "{only_key} = ANY(%s::{key_type}[])"
        query = _statement(
            "SELECT {id}, {text}, {functions}.vector_send({vector}::{functions}.vector){metadata} "
            "FROM {table} WHERE {mine} AND " + wanted,
            self._names(table),
        )
        return self._opened().execute(query, [list(ids)]).fetchall()

    def _names(self, table: VectorTable) -> Mapping[str, sql.Composable]:
        """What statements over the table are made of, quoted."""
        from psycopg import sql

        column = sql.Identifier
        vector = column(table.vector)
        texts = [sql.SQL("{}::text").format(column(name)) for name in table.key]
        mine = sql.SQL("{} IS NOT NULL").format(vector)
        if table.dim is not None:
            dims = sql.SQL(" AND {}.vector_dims({}) = {}").format(self._functions, vector, table.dim)
            mine = mine + dims
        metadata = [*([table.json] if table.json else []), *table.others]
        return {
            "table": column(table.schema, table.name),
            "functions": self._functions,
            "vector": vector,
            "only_key": column(table.key[0]),
            "key_type": sql.SQL(table.key_type or ""),
            "id": sql.SQL("concat_ws('/', {})").format(sql.SQL(", ").join(texts)),
            "text": sql.NULL if table.text is None else column(table.text),
            "metadata": sql.SQL("").join(sql.SQL(", {}").format(column(name)) for name in metadata),
            "mine": mine,
        }


def _statement(query: LiteralString, names: Mapping[str, sql.Composable]) -> sql.Composed:
    from psycopg import sql

    return sql.SQL(query).format(**names)


def _metadata(table: VectorTable, values: Sequence[Any]) -> dict[str, Any]:
    nested, columns = (None, values) if table.json is None else (values[0], values[1:])
    return row_metadata(dict(zip(table.others, columns, strict=True)), nested)
