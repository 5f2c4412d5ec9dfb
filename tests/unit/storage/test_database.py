"""The writer's promises: atomic units, durable on return, errors that say what to do."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from embedfleet.errors import ConfigError, DatabaseUnavailable, StorageFull
from embedfleet.storage import migrations, usage
from embedfleet.storage.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await opened.open()
    yield opened
    await opened.close()


def add(conn: Connection, name: str) -> None:
    usage.reserve(conn, name, 1, 0.0)


async def names(database: Database) -> set[str]:
    return await database.read(lambda conn: set(conn.execute(text("SELECT tenant_id FROM usage")).scalars()))


async def run_python(script: str, *arguments: str) -> int:
    """The exit code of a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments)
    return await process.wait()


async def test_a_failing_unit_undoes_itself_and_no_other_of_its_group(database: Database) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        entered.set()
        release.wait()

    def fail(conn: Connection) -> None:
        add(conn, "bad")
        raise ValueError("mine alone")

    first = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(entered.wait)  # what comes now waits and is committed as one group
    good = [asyncio.create_task(database.write(partial(add, name=f"good{n}"))) for n in range(5)]
    bad = asyncio.create_task(database.write(fail))
    more = [asyncio.create_task(database.write(partial(add, name=f"more{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(ValueError, match="mine alone"):
        await bad
    await asyncio.gather(first, *good, *more)
    assert await names(database) == {f"{kind}{n}" for kind in ("good", "more") for n in range(5)}


async def test_what_write_returned_survives_the_process(tmp_path: Path) -> None:
    script = """
import asyncio, os, signal, sys
from embedfleet.storage.database import Database
from embedfleet.storage import usage
async def main():
    database = Database(sys.argv[1])
    await database.open()
    await database.write(lambda conn: usage.reserve(conn, "kept", 7, 0.0))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    url = f"sqlite:///{tmp_path / 'test.db'}"
    assert await run_python(script, url) == -signal.SIGKILL
    database = Database(url)
    await database.open()
    assert await names(database) == {"kept"}
    await database.close()


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


async def test_writers_of_several_processes_wait_for_one_another(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from embedfleet.storage.database import Database
from embedfleet.storage import usage
def bump(conn):
    usage.reserve(conn, "shared", 1, 0.0)
async def main():
    database = Database(sys.argv[1], synchronous="normal")
    await database.open()
    for _ in range(200):
        await database.write(bump)
    await database.close()
asyncio.run(main())
"""
    url = f"sqlite:///{tmp_path / 'test.db'}"
    # Also the first opening races: both create the schema.
    both = await asyncio.gather(run_python(script, url), run_python(script, url))
    assert list(both) == [0, 0]
    database = Database(url)
    await database.open()
    assert await database.read(lambda conn: usage.chars_used(conn, "shared", 0.0)) == 400
    await database.close()


async def test_a_cancelled_waiter_leaves_the_writer_usable(database: Database) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        entered.set()
        release.wait()
        add(conn, "done all the same")

    waiter = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(entered.wait)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    release.set()
    await database.write(lambda conn: add(conn, "next"))
    assert await names(database) == {"done all the same", "next"}


async def test_close_finishes_what_waits_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await database.open()
    writes = [asyncio.create_task(database.write(partial(add, name=f"{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*writes)
    left = {thread for thread in threading.enumerate() if thread not in before}
    assert not {thread.name for thread in left if thread.name.startswith("sql")}
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.write(lambda conn: add(conn, "late"))
    with closing(sqlite3.connect(tmp_path / "test.db")) as look:
        assert len(look.execute("SELECT * FROM usage").fetchall()) == 20


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(ConfigError, match="readonly"):
        await database.read(lambda conn: add(conn, "x"))


async def test_waiting_ends_with_a_write_of_this_process(database: Database) -> None:
    seen = await database.version()
    waiting = asyncio.create_task(database.wait_for_write(seen, timeout_seconds=60))
    await database.write(lambda conn: add(conn, "x"))
    assert await waiting > seen


async def test_waiting_ends_with_a_write_of_another(database: Database, tmp_path: Path) -> None:
    # Whoever waits first learns what is there already; the second wait is for the stranger alone.
    seen = await database.wait_for_write(await database.version(), timeout_seconds=60)
    waiting = asyncio.create_task(database.wait_for_write(seen, timeout_seconds=60))
    await asyncio.sleep(0)
    stranger = sqlite3.connect(tmp_path / "test.db")
    stranger.execute("INSERT INTO usage VALUES ('stranger', '2026-01-01', 1, 1)")
    stranger.commit()
    stranger.close()
    assert await waiting > seen


async def test_waiting_ends_at_its_timeout(database: Database) -> None:
    seen = await database.wait_for_write(await database.version(), timeout_seconds=60)
    assert await database.wait_for_write(seen, timeout_seconds=0.01) == seen


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


async def test_a_schema_of_a_newer_release_is_refused_with_what_to_do(database: Database) -> None:
    await database.write(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")).rowcount
    )
    again = Database(f"sqlite:///{database.location}")
    with pytest.raises(ConfigError, match="upgrade embedfleet"):
        await again.open()
    await again.close()


async def test_a_url_of_another_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="postgresql"):
        Database("mysql://localhost/x")


async def test_the_migrations_build_exactly_the_tables_of_this_release(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from embedfleet.storage.tables import metadata

    def differences(conn: Connection) -> list[object]:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    assert await database.read(differences) == []


def test_the_head_the_code_expects_is_the_newest_migration() -> None:
    versions = Path(migrations.__file__).parent / "versions"
    assert max(path.name.split("_")[0] for path in versions.glob("[0-9]*.py")) == migrations.HEAD
