"""The promises of `RowsStatement` over either system: the rows that come back are those that changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from embedfleet.records import usage
from embedfleet.sql.database import Database
from embedfleet.sql.rows import RowsStatement

ADD = RowsStatement(
    "WITH given(tenant, more) AS (VALUES {rows}) "
    "UPDATE usage SET chars = chars + given.more, jobs = {jobs} FROM given "
    "WHERE usage.tenant_id = given.tenant AND usage.chars < {most} "
    "RETURNING usage.tenant_id, usage.chars"
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


def used(conn: Connection) -> dict[str, tuple[int, int]]:
    rows = conn.execute(text("SELECT tenant_id, chars, jobs FROM usage"))
    return {row.tenant_id: (row.chars, row.jobs) for row in rows}


async def test_each_row_changes_by_its_own_values_and_only_changed_rows_come_back(database: Database) -> None:
    def work(conn: Connection) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
        for tenant, chars in (("a", 1), ("b%s?", 2), ("full", 100)):
            usage.reserve(conn, {usage.Line(tenant): usage.Amount(1, chars)}, 0.0)
        given = [("a", 10), ("b%s?", 20), ("full", 30), ("unknown", 40)]
        changed = ADD.run(conn, given, jobs=7, most=100)
        return {row.tenant_id: row.chars for row in changed}, used(conn)

    changed, after = await database.write(work)
    assert changed == {"a": 11, "b%s?": 22}
    assert after == {"a": (11, 7), "b%s?": (22, 7), "full": (100, 1)}


async def test_more_rows_than_one_statement_takes_go_in_pages(database: Database) -> None:
    def work(conn: Connection) -> int:
        usage.reserve(conn, {usage.Line("a"): usage.Amount(1, 0)}, 0.0)
        usage.reserve(conn, {usage.Line("last"): usage.Amount(1, 0)}, 0.0)
        given = [("a", 1), *(("unknown", 1) for _ in range(16_000)), ("last", 1)]
        return len(ADD.run(conn, given, jobs=1, most=100))

    assert await database.write(work) == 2


async def test_no_rows_run_nothing(database: Database) -> None:
    assert await database.write(lambda conn: ADD.run(conn, [], jobs=1, most=1)) == []


async def test_a_column_that_holds_only_nulls_needs_its_type(database: Database) -> None:
    typed = RowsStatement(
        "WITH given(tenant, chars) AS (VALUES {rows}) "
        "UPDATE usage SET chars = COALESCE(given.chars, usage.chars) FROM given "
        "WHERE usage.tenant_id = given.tenant RETURNING usage.chars",
        casts={1: "BIGINT"},
    )

    def work(conn: Connection) -> list[int]:
        usage.reserve(conn, {usage.Line("a"): usage.Amount(1, 5)}, 0.0)
        return [row.chars for row in typed.run(conn, [("a", None)])]

    assert await database.write(work) == [5]
