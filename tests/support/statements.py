"""Counts the SQL statements of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event


@dataclass(frozen=True, slots=True)
class Statement:
    """One call of the driver. `parameters` is their number; of an `executemany`, it is the number of rows."""

    sql: str
    parameters: int


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """The statements that are executed while the block runs, on any database. An `executemany` is one."""
    executed: list[Statement] = []

    def note(_conn: Any, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        executed.append(Statement(sql, len(parameters)))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        event.remove(Engine, "before_cursor_execute", note)
