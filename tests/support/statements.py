"""Counts the SQL statements of a process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, Engine, event

from embedfleet.sql import rows


@dataclass(frozen=True, slots=True)
class Statement:
    """One call of the driver. `parameters` is their number; of an `executemany`, it is the number of rows."""

    sql: str
    parameters: int


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """The statements that are executed while the block runs, on any database. An `executemany` is one.

    Those of a transaction that was undone are left out: on a slow machine the server may end one, and then it
    is run again.
    """
    executed: list[Statement] = []
    under_way: dict[Connection, list[Statement]] = {}

    def note(conn: Connection, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        executed.append(Statement(sql, len(parameters)))
        under_way.setdefault(conn, []).append(executed[-1])

    def undone(conn: Connection) -> None:
        for one in under_way.pop(conn, ()):
            executed.remove(one)

    def kept(conn: Connection) -> None:
        under_way.pop(conn, None)

    def execute(conn: Connection, sql: str, parameters: Sequence[Any]) -> Any:
        note(conn, None, sql, parameters)
        return past_sqlalchemy(conn, sql, parameters)

    past_sqlalchemy = rows.execute
    event.listen(Engine, "before_cursor_execute", note)
    event.listen(Engine, "rollback", undone)
    event.listen(Engine, "commit", kept)
    try:
        with patch.object(rows, "execute", execute):
            yield executed
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        event.remove(Engine, "rollback", undone)
        event.remove(Engine, "commit", kept)
