"""PostgreSQL's own troubles: servers that are away, refuse, die or disagree; and how units get over them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import sleep

import pytest
from psycopg import pq
from sqlalchemy import Connection, make_url, text

from embedfleet.errors import (
    ConfigError,
    DatabaseUnavailable,
    EmbedfleetError,
    InvalidRequest,
    Remedy,
    StorageFull,
)
from embedfleet.records import usage
from embedfleet.sql import migrations, postgresql
from embedfleet.sql.database import Database
from support.command import Command
from support.databases import PostgresDatabases
from support.hangs import HANG_SECONDS, eventually
from support.postgres_server import GUARDED_USER, PostgresServer

CURRENT = migrations.HEAD


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[Database]:
    database = Database(url, **options)  # type: ignore[arg-type]
    try:
        await database.open()
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with opened(postgres_url) as database:
        yield database


@pytest.fixture
def own_server(postgres_databases: PostgresDatabases) -> Iterator[PostgresDatabases]:
    """A server this test may stop and kill. (The shared one is named so that it is skipped alike.)"""
    with PostgresServer() as server:
        yield PostgresDatabases(server)


def add(conn: Connection, name: str) -> None:
    usage.reserve(conn, {usage.Line(name): usage.Amount(1, 1)}, 0.0)


def chars_of(conn: Connection, tenants: list[str]) -> dict[str, int]:
    """The characters of the day in which `add` counts."""
    return {tenant: amount.chars for tenant, amount in usage.of_day(conn, tenants, 0.0).items()}


async def names(database: Database) -> set[str]:
    return await database.read(lambda conn: set(conn.execute(text("SELECT tenant_id FROM usage")).scalars()))


def database_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


# --- at the start ---


async def refusal(url: str) -> EmbedfleetError:
    """What opening it says, which is one line without the password."""
    with pytest.raises(EmbedfleetError) as caught:
        async with opened(url):
            pass
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    return caught.value


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    error = await refusal(f"postgresql://u:hunter2@/x?host={tmp_path}")
    assert isinstance(error, DatabaseUnavailable)
    assert str(tmp_path) in str(error)


async def test_a_wrong_password_is_a_wrong_setting(postgres_databases: PostgresDatabases) -> None:
    server = postgres_databases.server
    server.execute(f"CREATE ROLE {GUARDED_USER} LOGIN PASSWORD 'right'")
    error = await refusal(server.url_of("postgres", user=GUARDED_USER, password="hunter2"))
    assert isinstance(error, ConfigError)
    assert "password authentication failed" in str(error)


async def test_a_database_that_does_not_exist_is_a_wrong_setting(
    postgres_databases: PostgresDatabases,
) -> None:
    error = await refusal(postgres_databases.server.url_of("nowhere", password="hunter2"))
    assert isinstance(error, ConfigError)
    assert "nowhere" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@localhost:port/x",
        "postgresql://u:hunter2@localhost/x?no_such_option=hunter2",
        "postgresql",
    ],
)
async def test_a_url_that_cannot_be_read_is_a_wrong_setting(url: str) -> None:
    assert isinstance(await refusal(url), ConfigError)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
async def test_every_usual_name_of_the_scheme_is_taken(postgres_url: str, scheme: str) -> None:
    async with opened(scheme + postgres_url.removeprefix("postgresql")) as database:
        assert await names(database) == set()


async def test_a_missing_schema_is_refused_with_what_to_do(postgres_databases: PostgresDatabases) -> None:
    with postgres_databases.empty() as url:
        error = await refusal(url)
    assert isinstance(error, ConfigError)
    assert "the schema is missing: upgrade it" in str(error)
    assert error.remedy is Remedy.UPGRADE_SCHEMA


async def test_an_older_schema_is_refused_with_what_to_do(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "HEAD", "9999")
    error = await refusal(postgres_url)
    assert isinstance(error, ConfigError)
    assert f"at {CURRENT}, this release needs 9999: upgrade it" in str(error)
    assert error.remedy is Remedy.UPGRADE_SCHEMA


async def test_the_upgrade_says_what_it_did_and_may_be_repeated(
    postgres_databases: PostgresDatabases, tmp_path: Path
) -> None:
    with postgres_databases.empty() as url:
        command = partial(Command(tmp_path).run, "db", "upgrade", env={"EMBEDFLEET_DATABASE__URL": url})
        first, second, third = command(), command(), command("--json")
    assert first.stdout.strip().endswith(f": the schema is {CURRENT} now (was missing)")
    assert second.stdout.strip().endswith(f": the schema is {CURRENT} already")
    assert (third.document["schema_before"], third.document["schema"]) == (CURRENT, CURRENT)


async def test_processes_that_upgrade_at_once_wait_for_one_another(
    postgres_databases: PostgresDatabases,
) -> None:
    command = [sys.executable, "-m", "embedfleet", "db", "upgrade"]
    with postgres_databases.empty() as url:
        environment = os.environ | {"EMBEDFLEET_DATABASE__URL": url}
        processes = [
            await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            for _ in range(3)
        ]
        said = [(await process.communicate())[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert sorted("was missing" in line for line in said) == [False, False, True], said


# --- while it runs ---


async def test_a_server_that_crashed_is_unavailable_and_heals_by_itself(
    own_server: PostgresDatabases,
) -> None:
    with own_server.migrated() as url:
        async with opened(url) as database:
            await database.write(lambda conn: add(conn, "before"))
            own_server.server.crash()
            with pytest.raises(DatabaseUnavailable):
                await database.write(lambda conn: add(conn, "lost"))
            with pytest.raises(DatabaseUnavailable):
                await names(database)
            own_server.server.start()
            await database.write(lambda conn: add(conn, "after"))
            assert await names(database) == {"before", "after"}


async def test_waiting_goes_on_through_a_restart(own_server: PostgresDatabases) -> None:
    with own_server.migrated() as url:
        async with opened(url) as database, opened(url) as stranger:
            seen = await database.wait_for_write(
                await database.writes_noticed(), timeout_seconds=HANG_SECONDS
            )
            waiting = asyncio.create_task(database.wait_for_write(seen, timeout_seconds=HANG_SECONDS))
            await asyncio.to_thread(own_server.server.restart)
            await stranger.write(lambda conn: add(conn, "stranger"))
            assert await waiting > seen


async def test_connections_that_were_cut_are_nobodys_trouble(
    postgres_databases: PostgresDatabases, postgres_url: str, database: Database
) -> None:
    await database.write(lambda conn: add(conn, "first"))
    await names(database)
    postgres_databases.server.terminate_connections(database_of(postgres_url))
    await database.write(lambda conn: add(conn, "second"))
    assert await names(database) == {"first", "second"}


async def test_a_unit_whose_connection_is_cut_in_its_middle_is_run_again_whole(
    postgres_databases: PostgresDatabases, postgres_url: str, database: Database
) -> None:
    runs = 0

    def cut(conn: Connection) -> None:
        nonlocal runs
        runs += 1
        add(conn, "x")
        if runs == 1:
            postgres_databases.server.terminate_connections(database_of(postgres_url))
        add(conn, "x")

    await database.write(cut)
    assert runs == 2
    assert await database.read(lambda conn: chars_of(conn, ["x"])) == {"x": 2}


async def test_a_connection_lost_in_the_commit_is_not_run_again(
    postgres_databases: PostgresDatabases, postgres_url: str, database: Database
) -> None:
    """Nobody knows whether it was kept: the caller looks, or repeats what may be repeated."""
    runs = 0

    def cut(conn: Connection) -> None:
        nonlocal runs
        runs += 1
        add(conn, "x")
        postgres_databases.server.terminate_connections(database_of(postgres_url))

    with pytest.raises(DatabaseUnavailable):
        await database.write(cut)
    assert runs == 1


async def test_a_deadlock_is_nobodys_trouble(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # While one unit waits for the other to begin, the server must not end its transaction as idle.
    monkeypatch.setattr(postgresql, "_IDLE_IN_TRANSACTION_SECONDS", HANG_SECONDS)
    both_hold_one = threading.Barrier(2)
    runs: list[str] = []

    def crossed(conn: Connection, first: str, second: str) -> None:
        runs.append(first)
        add(conn, first)
        if runs.count(first) == 1:
            both_hold_one.wait()
        add(conn, second)

    async with opened(postgres_url) as database:
        for name in ("a", "b"):
            await database.write(partial(add, name=name))
        await asyncio.gather(
            database.write(partial(crossed, first="a", second="b")),
            database.write(partial(crossed, first="b", second="a")),
        )
        assert len(runs) >= 3, "one was run again; more than once if they met again"
        assert await database.read(lambda conn: chars_of(conn, ["a"])) == {"a": 3}


@pytest.mark.parametrize("last_sent", ["a row", "many rows"])
async def test_a_process_that_stands_still_does_not_keep_its_locks(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, last_sent: str
) -> None:
    """Many rows go in a pipeline, after which the server does not count idle time by itself."""
    monkeypatch.setattr(postgresql, "_IDLE_IN_TRANSACTION_SECONDS", 0.3)
    holding, taken = threading.Event(), threading.Event()

    def stand_still(conn: Connection) -> None:
        add(conn, "x")
        if last_sent == "many rows":
            conn.execute(text("UPDATE usage SET jobs = jobs WHERE tenant_id = :t"), [{"t": "x"}, {"t": "y"}])
        holding.set()
        taken.wait()
        add(conn, "x")

    def take(conn: Connection) -> None:
        add(conn, "x")
        taken.set()

    async with opened(postgres_url) as stopped, opened(postgres_url) as other:
        standing = asyncio.create_task(stopped.write(stand_still))
        await asyncio.to_thread(holding.wait)
        await other.write(take)
        await standing  # it was undone and run again
        assert await other.read(lambda conn: chars_of(conn, ["x"])) == {"x": 3}


async def test_a_unit_that_is_slow_rather_than_stopped_comes_to_an_end(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_IDLE_IN_TRANSACTION_SECONDS", 0.1)
    limits: list[str] = []

    def slow(conn: Connection) -> None:
        add(conn, "x")
        limits.append(show_idle_limit(conn))
        sleep(0.3)  # the server ends the first runs here
        add(conn, "x")

    async with opened(postgres_url) as database:
        await database.write(slow)
        assert limits[:3] == ["100ms", "200ms", "400ms"]
        assert await database.read(lambda conn: chars_of(conn, ["x"])) == {"x": 2}
        await database.write(lambda conn: limits.append(show_idle_limit(conn)))
        assert limits[-1] == "100ms", "the longer limit ended with its unit"


async def test_a_slow_read_whose_connection_is_lost_at_its_end_runs_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_IDLE_IN_TRANSACTION_SECONDS", 0.1)
    runs: list[dict[str, int]] = []

    def slow(conn: Connection) -> dict[str, int]:
        runs.append(chars_of(conn, ["x"]))
        if len(runs) == 1:
            sleep(0.3)  # the server ends the first run here, which is noticed when it ends
        return runs[-1]

    async with opened(postgres_url) as database:
        await database.write(lambda conn: add(conn, "x"))
        assert await database.read(slow) == {"x": 1}
    assert len(runs) > 1


def show_idle_limit(conn: Connection) -> str:
    return str(conn.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one())


async def test_an_upgrade_may_take_its_time_between_two_statements(
    postgres_databases: PostgresDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[str] = []
    current = migrations._current

    def look(conn: Connection) -> str | None:
        limits.append(show_idle_limit(conn))
        return current(conn)

    monkeypatch.setattr(migrations, "_current", look)
    with postgres_databases.empty() as url:
        database = Database(url)
        await database.upgrade_schema()
        await database.close()
    assert limits == ["0"]


@contextmanager
def unread_connection(url: str) -> Iterator[pq.abc.PGconn]:
    """A connection with the limits of ours, whose client may stand still: it need not read answers."""
    engine = postgresql._engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), 1, 5.0, 30.0)
    connection = engine.raw_connection()
    try:
        driver = connection.driver_connection
        assert driver is not None
        yield driver.pgconn
    finally:
        connection.invalidate()
        engine.dispose()


def until_it_holds_or_waits(server: PostgresServer, pid: int) -> None:
    there = "(state LIKE 'idle in%' OR wait_event_type = 'Lock')"
    query = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND {there}"
    eventually(lambda: bool(server.execute(query)), what="in line for the lock")


async def test_processes_that_stand_still_while_they_wait_for_a_lock_do_not_get_it_in_their_turn(
    postgres_databases: PostgresDatabases, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are frozen: one holds a row, the other waits for it. Only a third works, and it waits as well."""
    monkeypatch.setattr(postgresql, "_ONE_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(postgresql, "_IDLE_IN_TRANSACTION_SECONDS", 0.6)
    take = b"BEGIN; UPDATE usage SET jobs = jobs + 1 WHERE tenant_id = 'x'"
    async with opened(postgres_url) as working, AsyncExitStack() as stack:
        await working.write(lambda conn: add(conn, "x"))
        frozen = [stack.enter_context(unread_connection(postgres_url)) for _ in range(2)]
        for connection in frozen:
            connection.send_query(take)  # nothing reads the answers: the client stands still
            await asyncio.to_thread(
                until_it_holds_or_waits, postgres_databases.server, connection.backend_pid
            )
        await working.write(lambda conn: add(conn, "x"))
        _holder, waiter = frozen
        waiter.get_result()  # of BEGIN
        answer = waiter.get_result()
        assert answer is not None
        assert answer.error_field(pq.DiagnosticField.SQLSTATE) == b"55P03"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("53100", StorageFull),  # disk full
        ("53300", DatabaseUnavailable),  # too many connections
        ("25006", DatabaseUnavailable),  # a standby
        ("57P03", DatabaseUnavailable),  # starting up
        ("55P03", DatabaseUnavailable),  # a lock was not to be had
        ("42P01", ConfigError),  # no such table
        ("42501", ConfigError),  # no privilege
    ],
)
async def test_what_the_server_refuses_is_one_of_our_errors(
    postgres_url: str, code: str, kind: type[EmbedfleetError]
) -> None:
    raise_it = f"DO $$ BEGIN RAISE EXCEPTION 'says the server' USING ERRCODE = '{code}'; END $$"
    async with opened(postgres_url, busy_timeout_seconds=0.01) as database:
        with pytest.raises(kind, match="says the server") as caught:
            await database.write(lambda conn: conn.execute(text(raise_it)).rowcount)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


async def test_too_many_connections_are_waited_out(
    postgres_databases: PostgresDatabases, postgres_url: str
) -> None:
    server = postgres_databases.server
    server.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    error = await refusal(server.url_of(database_of(postgres_url), user="crowded"))
    assert isinstance(error, DatabaseUnavailable)


async def test_an_id_that_no_text_column_takes_is_an_invalid_request(database: Database) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        await database.read(lambda conn: chars_of(conn, ["a\0b"]))


async def test_closing_leaves_no_connection(postgres_databases: PostgresDatabases, postgres_url: str) -> None:
    name = database_of(postgres_url)
    async with opened(postgres_url) as database:
        await asyncio.gather(*(database.write(partial(add, name=f"{n}")) for n in range(50)))
        await asyncio.gather(*(names(database) for _ in range(50)))
        assert 1 <= postgres_databases.server.connections(name) <= 8
    # The server counts one until its process has seen the end of it.
    eventually(lambda: postgres_databases.server.connections(name) == 0, what="no connection")
