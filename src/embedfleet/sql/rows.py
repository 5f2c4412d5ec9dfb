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

SQLite has `UPDATE ... FROM` since 3.33 and `RETURNING` since 3.35. The driver gets the text as it is, so the
statement costs no compilation, and the values of the answer are the driver's: a boolean of SQLite is 0 or 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row

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

    def run(self, conn: Connection, rows: Sequence[Sequence[Any]], **values: Any) -> list[Row[Any]]:
        """Run the statement once for each page of rows, and return what the statement returns.

        Usually all rows are one page. No rows: nothing is run. `values` are the other parameters by name.
        """
        if not rows:
            return []
        before = [values[name] for name in self._rows_after]
        after = [values[name] for name in self._fields[len(self._rows_after) :]]
        found: list[Row[Any]] = []
        for page in pages(rows, _MOST_PARAMETERS // len(rows[0])):
            sql = self._sql(len(page), len(rows[0]), conn.dialect.paramstyle)
            parameters = (*before, *(value for row in page for value in row), *after)
            result = conn.exec_driver_sql(sql, parameters)
            if result.returns_rows:
                found += result.all()
        return found

    def _build(self, count: int, width: int, paramstyle: str) -> str:
        mark = "?" if paramstyle == "qmark" else "%s"
        columns = (f"CAST({mark} AS {self._casts[i]})" if i in self._casts else mark for i in range(width))
        row = f"({', '.join(columns)})"
        lists = ", ".join([row] * count)
        return _FIELD.sub(lambda field: lists if field[1] == "rows" else mark, self._text)
