"""What is SQLite's own: a file that may be locked, full, or something else."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from embedfleet.errors import ConfigError, DatabaseUnavailable, StorageFull
from embedfleet.records import usage
from embedfleet.sql.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await opened.open()
    yield opened
    await opened.close()


def add(conn: Connection, name: str) -> None:
    usage.reserve(conn, {usage.Line(name): usage.Amount(1, 1)}, 0.0)


async def names(database: Database) -> set[str]:
    return await database.read(lambda conn: set(conn.execute(text("SELECT tenant_id FROM usage")).scalars()))


async def test_a_full_disk_is_said_in_one_line_and_keeps_nothing_of_the_unit(database: Database) -> None:
    await database.write(lambda conn: add(conn, "before"))
    await database.write(
        lambda conn: conn.exec_driver_sql(
            f"PRAGMA max_page_count = {conn.exec_driver_sql('PRAGMA page_count').scalar_one()}"
        ).scalar()
    )

    def too_much(conn: Connection) -> None:
        for n in range(2000):
            add(conn, f"{n}" * 50)

    with pytest.raises(StorageFull, match="free some space") as caught:
        await database.write(too_much)
    assert "\n" not in str(caught.value)
    assert await names(database) == {"before"}
    await database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count = 1000000").scalar())
    await database.write(lambda conn: add(conn, "after"))
    assert await names(database) == {"before", "after"}


async def test_a_sqlite_without_the_statements_we_need_is_refused_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    with pytest.raises(ConfigError, match=r"SQLite 3\.34\.1, and 3\.35 or later is needed: use a newer"):
        await database.open()
    await database.close()
    assert not os.listdir(tmp_path)


async def test_a_database_locked_for_too_long_is_unavailable_and_works_again(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = Database(f"sqlite:///{path}", busy_timeout_seconds=0.05)
    await database.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        await database.write(lambda conn: add(conn, "x"))
    other.execute("ROLLBACK")
    other.close()
    await database.write(lambda conn: add(conn, "x"))
    assert await names(database) == {"x"}
    await database.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"this is not a database, but it is long enough to be looked at" * 20, "not a database")],
)
async def test_a_file_that_is_no_database_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(content)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(ConfigError, match=message) as caught:
        await database.open()
    assert "\n" not in str(caught.value)
    await database.close()
    assert path.read_bytes() == content


async def test_after_migrations_that_ran_without_foreign_keys_they_are_enforced(database: Database) -> None:
    """The writer's connection is the one that migrated."""
    orphan = "INSERT INTO segments (generation_id, ordinal, start, chars, body) VALUES (1, 0, 0, 1, x'00')"
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await database.write(lambda conn: conn.exec_driver_sql(orphan).rowcount)
