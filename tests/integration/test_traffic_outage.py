"""A router while a real PostgreSQL server is down: requests go on, and what was kept is done afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from embedfleet.clock import SystemClock
from embedfleet.errors import ServerUnavailable
from embedfleet.records import removals, traffic_counts
from embedfleet.sql.database import Database
from embedfleet.traffic.changes import change_state, present_state
from embedfleet.traffic.paths import IngestRequest, Path
from embedfleet.traffic.router import TrafficRouter
from support.databases import PostgresDatabases
from support.hangs import HANG_SECONDS
from support.postgres_server import PostgresServer
from support.shelves import ShowingShelf, visible

pytestmark = pytest.mark.slow  # its twin without a server: tests/integration/test_traffic_state.py


@pytest.fixture
def own_server(postgres_databases: PostgresDatabases) -> Iterator[PostgresDatabases]:
    """A server that this test may stop. (The shared one is named so that it is skipped alike.)"""
    with PostgresServer() as server:
        yield PostgresDatabases(server)


async def test_requests_go_on_while_the_server_is_down_and_what_was_kept_is_done_afterwards(
    own_server: PostgresDatabases,
) -> None:
    old, new = ShowingShelf(), ShowingShelf()
    with own_server.migrated() as url:
        database = Database(url, connect_timeout_seconds=1)
        await database.open()
        async with TrafficRouter(old, new, database=database) as router:
            await database.write(everything_to_the_fleet)

            async def sent(content: str, path: Path) -> None:
                async def look() -> bool | None:
                    return (await router.ingest(IngestRequest("t", "1", content))).path is path or None

                async with asyncio.timeout(HANG_SECONDS):
                    await database.until(look, every_seconds=0.05)

            await sent("v1", Path.ASYNC)
            with own_server.server.down():
                new.fails_with = new.removal_fails_with = lambda: ServerUnavailable("down, too")
                for number in range(20):
                    await sent(f"v2.{number}", Path.SYNC)
            assert visible("1", old, new) == ["v2.19", "v1"]
            new.fails_with = new.removal_fails_with = None

            async def settled() -> bool | None:
                return visible("1", old, new) == ["v2.19", None] or None

            async with asyncio.timeout(HANG_SECONDS):
                await database.until(settled, every_seconds=0.1)
            await sent("v3", Path.ASYNC)
        sums = await database.read(traffic_counts.sums)
        assert sums["async"].fallbacks == sums["async"].errors >= 20
        assert await database.read(removals.numbers) == {}
        assert visible("1", old, new) == [None, "v3"]
        await database.close()


def everything_to_the_fleet(conn: Connection) -> None:
    before = present_state(conn)
    after = before.model_copy(update={"percent": 100})
    assert change_state(
        conn, before, after, actor="local", action="set", reason=None, now=SystemClock().now()
    )
