"""How SQLite looks for the documents that a space lacks: for each document by its id, not through a space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event

from embedfleet.records import switch_gaps, twins
from embedfleet.records.collections import Collection
from embedfleet.records.switch_gaps import Way
from embedfleet.sql.schema import SCHEMA

OLD, NEW = Collection(1, "alice", "old", "old", 8), Collection(2, "alice", "new", "new", 8)
WAY = Way(1, OLD, NEW)


def plan_of(conn: Connection, look: Callable[[Connection], Any]) -> list[str]:
    """The plan of the statement that this look executes."""
    executed: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, sql: str, given: Any, *_: Any) -> None:
        executed.append((sql, given))

    event.listen(conn, "before_cursor_execute", note)
    look(conn)
    event.remove(conn, "before_cursor_execute", note)
    [(sql, given)] = executed
    return [row.detail for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given)]


@pytest.mark.parametrize(
    "look",
    [
        lambda conn: switch_gaps.any_open(conn, WAY),
        lambda conn: switch_gaps.any_given_up(conn, WAY),
        lambda conn: switch_gaps.to_copy(conn, WAY, limit=10),
        lambda conn: switch_gaps.measure(conn, WAY),
        lambda conn: twins.count_only_in(conn, OLD, [NEW]),
    ],
    ids=["open", "given up", "to copy", "measure", "only in one"],
)
def test_the_other_space_is_asked_for_a_document_by_its_id(look: Callable[[Connection], Any]) -> None:
    engine = create_engine("sqlite://")
    SCHEMA.create_all(engine)
    with engine.connect() as conn:
        plan = plan_of(conn, look)
    engine.dispose()
    inner = [
        step for step in plan if step.startswith("SEARCH ") and not step.startswith("SEARCH generations ")
    ]
    through_a_space = [step for step in inner if "(collection_id=?)" in step]
    assert inner, plan
    assert not through_a_space, plan
