"""One orchestrator leads; when it falls silent another does, and nobody needs the same clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from embedfleet.leader.election import SqlElection
from embedfleet.records import fleet
from embedfleet.sql.database import Database

LEASE_SECONDS = 10.0


class Watch:
    """One host's monotonic clock."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await opened.open()
    yield opened
    await opened.close()


def candidate(database: Database, name: str, watch: Watch) -> SqlElection:
    return SqlElection(database, name, lease_seconds=LEASE_SECONDS, now=watch)


async def test_the_first_leads_and_the_second_waits_while_it_beats(database: Database) -> None:
    a_watch, b_watch = Watch(0), Watch(5_000)
    a, b = candidate(database, "a", a_watch), candidate(database, "b", b_watch)
    await a.stand()
    await b.stand()
    assert (a.leads, b.leads) == (True, False)
    for _ in range(30):
        a_watch.now += 2
        b_watch.now += 2
        await a.stand()
        await b.stand()
        assert (a.leads, b.leads) == (True, False)


async def test_a_silent_leader_is_replaced_after_the_lease_and_not_before(database: Database) -> None:
    a_watch, b_watch = Watch(0), Watch(5_000)
    a, b = candidate(database, "a", a_watch), candidate(database, "b", b_watch)
    await a.stand()
    await b.stand()
    b_watch.now += LEASE_SECONDS - 0.1
    await b.stand()
    assert not b.leads
    b_watch.now += 0.1
    await b.stand()
    assert b.leads
    a_watch.now += LEASE_SECONDS  # it wakes up and knows by its own clock
    assert not a.leads
    await a.stand()
    assert (a.leads, b.leads) == (False, True)


async def test_a_leader_that_was_cut_off_for_a_moment_leads_on(database: Database) -> None:
    watch = Watch(0)
    a = candidate(database, "a", watch)
    await a.stand()
    watch.now += LEASE_SECONDS * 3
    assert not a.leads
    await a.stand()
    assert a.leads


async def test_a_leader_that_resigns_is_followed_at_once(database: Database) -> None:
    a, b = candidate(database, "a", Watch(0)), candidate(database, "b", Watch(0))
    await a.stand()
    await a.resign()
    assert not a.leads
    await b.stand()
    assert b.leads
    await a.resign()  # late, and without effect on the new one
    await b.stand()
    assert b.leads


async def test_of_many_that_try_at_once_exactly_one_leads(database: Database) -> None:
    crowd = [candidate(database, f"c{n}", Watch(n * 100)) for n in range(12)]
    await asyncio.gather(*(one.stand() for one in crowd))
    assert sum(one.leads for one in crowd) == 1


async def test_orders_reach_the_one_they_are_for_once(database: Database) -> None:
    for name in ("a", "b"):
        await database.write(
            lambda conn, name=name: fleet.announce(conn, name, host="h", pid=1, now=100.0, pools={})  # type: ignore[misc]
        )
    await database.write(lambda conn: fleet.order_workers(conn, "a", "embedding", 3))
    await database.write(lambda conn: fleet.order_workers(conn, "a", "storage", 0))
    running = await database.read(lambda conn: fleet.running(conn, 100.0 + fleet.SILENT_SECONDS))
    assert [(one.orchestrator_id, one.has_orders) for one in running] == [("a", True), ("b", False)]
    assert await database.write(lambda conn: fleet.take_orders(conn, "b")) == {}
    assert await database.write(lambda conn: fleet.take_orders(conn, "a")) == {"embedding": 3, "storage": 0}
    assert await database.write(lambda conn: fleet.take_orders(conn, "a")) == {}


async def test_only_those_seen_lately_are_running(database: Database) -> None:
    for name, now in (("old", 100.0), ("new", 200.0)):
        await database.write(
            lambda conn, name=name, now=now: fleet.announce(conn, name, host="h", pid=1, now=now, pools={})  # type: ignore[misc]
        )
    running = await database.read(lambda conn: fleet.running(conn, 150.0 + fleet.SILENT_SECONDS))
    assert [one.orchestrator_id for one in running] == ["new"]
    await database.write(lambda conn: fleet.forget_silent(conn, seen_before=150.0))
    assert len(await database.read(lambda conn: fleet.running(conn, fleet.SILENT_SECONDS))) == 1
