"""Runs one SQL statement over many given rows, as `VALUES` lists.

A claim of many tasks changes many rows, each with values of its own, and must learn which of them changed.
`executemany` does not tell that. This does, in one statement for both database systems::

    _MOVE = RowsStatement(
        "WITH given(job_id, ordinal) AS (VALUES {rows}) "
        "UPDATE batches SET state = {new} FROM given "
        "WHERE batches.job_id = given.job_id AND batches.ordinal = given.ordinal AND batches.state = {old} "
        "RETURNING batches.job_id, batches.ordinal"
    )
    moved = _MOVE.run(conn, [("job_1", 0), ("job_2", 4)], new="done", old="embedded")

SQLite has `UPDATE ... FROM` since 3.33 and `RETURNING` since 3.35.

The statement goes to the driver's cursor and not through SQLAlchemy, which takes the process two to four
times as long as the cursor itself; a claim of a worker runs a dozen statements. So the values of the answer
are the driver's: a boolean of SQLite is 0 or 1.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from embedfleet.paging import pages

# SQLite takes 32,766 bound parameters in a statement, and a statement has some beside the rows.
_MOST_PARAMETERS = 30_000
_FIELD = re.compile(r"\{(\w+)\}")


class RowsStatement:
    """A statement with `{rows}` in it, where the given rows stand, and `{name}` for each other parameter.

    `casts` gives the SQL type of a given column by its position. PostgreSQL needs it where it cannot tell the
    type of a parameter: for a column that may hold only NULLs.
    """

    def __init__(self, text: str, *, casts: dict[int, str] | None = None) -> None:
        self._text = text
        self._casts = casts or {}
        self._fields = [name for name in _FIELD.findall(text) if name != "rows"]
        self._rows_after = _FIELD.findall(text)[: _FIELD.findall(text).index("rows")]
        # A process uses few different numbers of rows at a time. 64 texts of a few kilobytes are kept.
        self._sql = lru_cache(maxsize=64)(self._build)
        self._row: Callable[[Sequence[Any]], Any] | None = None

    def run(self, conn: Connection, rows: Sequence[Sequence[Any]], **values: Any) -> list[Any]:
        """Run the statement once for each page of rows, and return what the statement returns: named tuples.

        Usually all rows are one page. No rows: nothing is run. `values` are the other parameters by name.
        Raises SQLAlchemy's errors.
        """
        if not rows:
            return []
        before = [values[name] for name in self._rows_after]
        after = [values[name] for name in self._fields[len(self._rows_after) :]]
        found: list[Any] = []
        for page in pages(rows, _MOST_PARAMETERS // len(rows[0])):
            sql = self._sql(len(page), len(rows[0]), conn.dialect.paramstyle)
            parameters = (*before, *(value for row in page for value in row), *after)
            found += self._returned(*execute(conn, sql, parameters))
        return found

    def _returned(self, names: Sequence[str], values: Sequence[Sequence[Any]]) -> list[Any]:
        """Give the values the names of their columns, which are the same at every run."""
        if self._row is None:
            self._row = _named_tuple(names)
        return list(map(self._row, values))

    def _build(self, count: int, width: int, paramstyle: str) -> str:
        mark = "?" if paramstyle == "qmark" else "%s"
        columns = (f"CAST({mark} AS {self._casts[i]})" if i in self._casts else mark for i in range(width))
        row = f"({', '.join(columns)})"
        lists = ", ".join([row] * count)
        return _FIELD.sub(lambda field: lists if field[1] == "rows" else mark, self._text)


def _named_tuple(names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    """Return what makes a named tuple of a row. A column without a usable name is reached by its position."""
    make_type: Any = namedtuple  # the names are known only now
    make: Callable[[Sequence[Any]], Any] = make_type("Returned", names, rename=True)._make
    return make


def execute(
    conn: Connection, sql: str, parameters: Sequence[Any]
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Run a statement with the driver, within the transaction of the connection.

    Returns the names of the columns, and the rows; nothing if the statement returns no rows. Raises an error
    of the driver as SQLAlchemy does, which then gives up a connection that is broken.
    """
    if not conn.in_transaction():
        conn.begin()
    cursor = conn.connection.cursor()
    try:
        cursor.execute(sql, parameters)
        if cursor.description is None:
            return (), ()
        return [column[0] for column in cursor.description], cursor.fetchall()
    except conn.dialect.loaded_dbapi.Error as exc:
        is_broken = conn.dialect.is_disconnect(exc, conn.connection.driver_connection, cursor)
        if is_broken:
            conn.invalidate(exc)
        raise DBAPIError.instance(
            sql,
            None,  # they hold document text, which must not reach a log
            exc,
            conn.dialect.loaded_dbapi.Error,
            hide_parameters=True,
            connection_invalidated=is_broken,
            dialect=conn.dialect,
        ) from exc
    finally:
        cursor.close()
