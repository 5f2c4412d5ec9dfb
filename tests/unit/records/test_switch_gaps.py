"""What a switch asks SQL again and again does not read all documents each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event

from embedfleet.records import documents, switch_gaps, twins
from embedfleet.records.collections import Collection
from embedfleet.records.switch_gaps import Way
from embedfleet.sql.schema import SCHEMA

OLD, NEW = (Collection(number, "alice", f"m{number}", f"s{number}", 8) for number in (1, 2))


@pytest.mark.parametrize(
    "look",
    [
        lambda conn: switch_gaps.to_copy(conn, Way(1, OLD, NEW), limit=10, after="5"),
        lambda conn: twins.to_settle(conn, "alice", kept=NEW, dropped=OLD, limit=10, after="5"),
        lambda conn: documents.ids_after(conn, "alice", "5", 10),
    ],
    ids=["documents to copy", "documents to settle", "all documents"],
)
def test_a_page_of_documents_begins_where_the_last_one_ended(look: Callable[[Connection], Any]) -> None:
    engine = create_engine("sqlite://")
    SCHEMA.create_all(engine)
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    with engine.connect() as conn:
        look(conn)
        [(statement, values)] = asked
        plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert any("tenant_id=? AND document_id>?" in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan
    engine.dispose()
