"""How SQLite looks for the documents that a space lacks: for each document by its id, not through a space."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Select, create_engine
from sqlalchemy.engine import Engine

from embedfleet.records import switch_gaps, twins
from embedfleet.records.collections import Collection
from embedfleet.records.switch_gaps import Way
from embedfleet.sql.schema import SCHEMA

OLD, NEW = Collection(1, "alice", "old", "old", 8), Collection(2, "alice", "new", "new", 8)
WAY = Way(1, OLD, NEW)


@pytest.fixture
def engine() -> Engine:
    engine = create_engine("sqlite://")
    SCHEMA.create_all(engine)
    return engine


def plan_of(conn: Connection, query: Select[tuple[str]]) -> list[str]:
    compiled = query.compile(dialect=conn.dialect, compile_kwargs={"render_postcompile": True})
    given = tuple(compiled.params[name] for name in compiled.positiontup or ())
    rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", given)
    return [row.detail for row in rows]


@pytest.mark.parametrize(
    ("query", "other"),
    [
        (switch_gaps._gaps(WAY), "there"),
        (switch_gaps._to_copy(WAY), "there"),
        (twins._stranded("alice", kept=NEW, dropped=OLD), "other"),
    ],
    ids=["gaps", "to copy", "stranded"],
)
def test_the_other_space_is_asked_for_a_document_by_its_id(
    engine: Engine, query: Select[tuple[str]], other: str
) -> None:
    with engine.connect() as conn:
        plan = plan_of(conn, query)
    [asked] = [step for step in plan if step.startswith(f"SEARCH {other} ")]
    assert "document_id=?" in asked, plan
