"""The promises of `Database` over either system: atomic units, durable on return, news of every write."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from embedfleet.errors import ConfigError, DatabaseUnavailable, EmbedfleetError
from embedfleet.records import chunks, embedding_cache, generations, usage
from embedfleet.records.embedding_cache import CacheUse
from embedfleet.sql import document_lock, migrations
from embedfleet.sql.database import Database
from embedfleet.sql.document_lock import DocumentNotLocked
from support.hangs import HANG_SECONDS
from support.system import until
from support.threads import no_thread_left


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, synchronous="normal")
    try:
        await database.open()
        yield database
    finally:
        await database.close()


def add(conn: Connection, name: str) -> None:
    usage.reserve(conn, {usage.Line(name): usage.Amount(1, 1)}, 0.0)


def chars_of(conn: Connection, tenants: list[str]) -> dict[str, int]:
    """The characters of the day in which `add` counts."""
    return {tenant: amount.chars for tenant, amount in usage.of_day(conn, tenants, 0.0).items()}


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


async def test_what_write_returned_survives_the_process(database_url: str) -> None:
    script = """
import asyncio, os, signal, sys
from embedfleet.sql.database import Database
from embedfleet.records import usage
async def main():
    database = Database(sys.argv[1])
    await database.open()
    await database.write(lambda conn: usage.reserve(conn, {usage.Line("kept"): usage.Amount(1, 7)}, 0.0))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert await run_python(script, database_url) == -signal.SIGKILL
    async with opened(database_url) as database:
        assert await names(database) == {"kept"}


async def test_writers_of_several_processes_wait_for_one_another(database_url: str) -> None:
    script = """
import asyncio, sys
from embedfleet.sql.database import Database
from embedfleet.records import usage
def bump(conn):
    usage.reserve(conn, {usage.Line("shared"): usage.Amount(1, 1)}, 0.0)
async def main():
    database = Database(sys.argv[1], synchronous="normal")
    await database.open()
    for _ in range(200):
        await database.write(bump)
    await database.close()
asyncio.run(main())
"""
    # Also the first opening races: SQLite's schema is created by both.
    both = await asyncio.gather(run_python(script, database_url), run_python(script, database_url))
    assert list(both) == [0, 0]
    async with opened(database_url) as database:
        assert await database.read(lambda conn: chars_of(conn, ["shared"])) == {"shared": 400}


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

    async def both_done() -> bool:
        return await names(database) == {"done all the same", "next"}

    await until(both_done, database)  # PostgreSQL carries them out side by side


async def test_close_finishes_what_waits_and_leaves_no_thread(database_url: str) -> None:
    with no_thread_left("sql"):
        database = Database(database_url)
        await database.open()
        writes = [asyncio.create_task(database.write(partial(add, name=f"{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        await database.close()
        await asyncio.gather(*writes)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.write(lambda conn: add(conn, "late"))
    async with opened(database_url) as look:
        assert len(await names(look)) == 20


async def test_a_thread_that_reads_while_the_database_is_closed_is_told_so(database_url: str) -> None:
    async with opened(database_url) as database:
        pass
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await asyncio.to_thread(database.read_blocking, lambda conn: None)


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(EmbedfleetError, match=r"read-?only"):
        await database.read(lambda conn: add(conn, "x"))


async def test_a_reader_sees_one_snapshot_however_long_it_takes(database: Database) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(conn: Connection) -> tuple[dict[str, int], dict[str, int]]:
        first = chars_of(conn, ["x"])
        looked.set()
        written.wait()
        return first, chars_of(conn, ["x"])

    reading = asyncio.create_task(database.read(look_twice))
    await asyncio.to_thread(looked.wait)
    await database.write(lambda conn: add(conn, "x"))
    written.set()
    assert await reading == ({}, {})
    assert await database.read(lambda conn: chars_of(conn, ["x"])) == {"x": 1}


async def test_a_day_may_count_more_than_32_bits(database: Database) -> None:
    await database.write(lambda conn: usage.reserve(conn, {usage.Line("x"): usage.Amount(1, 10**12)}, 0.0))
    assert await database.read(lambda conn: chars_of(conn, ["x"])) == {"x": 10**12}


@pytest.mark.parametrize(
    "change",
    [
        lambda conn: chunks.mark_unreferenced(conn, ["held", "d"]),
        lambda conn: generations.mark_live(conn, [("held", 1), ("d", 2)]),
        lambda conn: embedding_cache.record_uses(
            conn, [CacheUse(1, "held", {}, {}), CacheUse(1, "d", {}, {})], 0.0
        ),
    ],
)
async def test_a_unit_that_forgot_the_lock_of_a_document_is_refused(
    database: Database, change: Callable[[Connection], object]
) -> None:
    await database.write(
        lambda conn: document_lock.lock(conn, ["d"])
    )  # another unit's lock is not this one's

    def forgetful(conn: Connection) -> None:
        document_lock.lock(conn, ["held"])
        change(conn)

    with pytest.raises(DocumentNotLocked, match="document d"):
        await database.write(forgetful)


async def test_waiting_ends_with_a_write_of_this_process(database: Database) -> None:
    seen = await database.writes_noticed()
    waiting = asyncio.create_task(database.wait_for_write(seen, timeout_seconds=HANG_SECONDS))
    await database.write(lambda conn: add(conn, "x"))
    assert await waiting > seen


async def test_waiting_ends_with_a_write_of_another(database: Database, database_url: str) -> None:
    async with opened(database_url) as stranger:
        # Whoever waits first learns what is there already; the second wait is for the stranger alone.
        seen = await database.wait_for_write(await database.writes_noticed(), timeout_seconds=HANG_SECONDS)
        waiting = asyncio.create_task(database.wait_for_write(seen, timeout_seconds=HANG_SECONDS))
        await asyncio.sleep(0)
        await stranger.write(lambda conn: add(conn, "stranger"))
        assert await waiting > seen


async def test_waiting_ends_at_its_timeout(database: Database) -> None:
    seen = await database.wait_for_write(await database.writes_noticed(), timeout_seconds=HANG_SECONDS)
    assert await database.wait_for_write(seen, timeout_seconds=0.01) == seen


async def test_a_schema_of_a_newer_release_is_refused_with_what_to_do(
    database: Database, database_url: str
) -> None:
    await database.write(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")).rowcount
    )
    with pytest.raises(ConfigError, match="upgrade embedfleet"):
        async with opened(database_url):
            pass


async def test_a_url_of_another_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="postgresql"):
        Database("mysql://localhost/x")


async def test_the_migrations_build_exactly_the_tables_of_this_release(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from embedfleet.sql.schema import SCHEMA

    def differences(conn: Connection) -> list[object]:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        return list(compare_metadata(context, SCHEMA))

    assert await database.read(differences) == []


def test_the_head_the_code_expects_is_the_newest_migration() -> None:
    versions = Path(migrations.__file__).parent / "versions"
    assert max(path.name.split("_")[0] for path in versions.glob("[0-9]*.py")) == migrations.HEAD
