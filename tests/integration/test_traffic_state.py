"""The state that routers follow, and the counts that they write, while SQL is there and while it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, func, select

from embedfleet.clock import ManualClock
from embedfleet.errors import DatabaseUnavailable
from embedfleet.metrics import Metrics
from embedfleet.records import traffic_counts
from embedfleet.records.traffic_counts import Counts
from embedfleet.sql.traffic_tables import traffic_counts as table
from embedfleet.traffic.changes import change_state, present_state
from embedfleet.traffic.counting import SLICE_SECONDS, Counting
from embedfleet.traffic.paths import IngestRequest, IngestResult, Path
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.state_watch import EFFECT_SECONDS, NOTHING_KNOWN, WatchedStates
from support.hangs import HANG_SECONDS
from support.reachable import Reachable
from support.shelves import Shelf

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Reachable]:
    database = Reachable(database_url)
    await database.open()
    yield database
    await database.close()


async def set_percent(database: Reachable, percent: float, now: float) -> None:
    def unit(conn: Connection) -> object:
        before = present_state(conn)
        after = before.model_copy(update={"percent": percent})
        return change_state(conn, before, after, actor="local", action="set", reason=None, now=now)

    assert await database.write(unit) is not None


async def test_a_change_holds_at_the_same_instant_in_every_process(
    database: Reachable, clock: ManualClock
) -> None:
    """If one followed it before another, each could remove what the other one stores."""
    one, other = WatchedStates(database, clock), WatchedStates(database, clock)
    for states in (one, other):
        await states.refresh()
    await set_percent(database, 10, clock.now())
    await one.refresh()
    clock.advance(EFFECT_SECONDS - 0.01)
    await other.refresh()
    assert [states.present().state.percent for states in (one, other)] == [0, 0]
    clock.advance(0.02)
    assert [states.present().state.percent for states in (one, other)] == [10, 10]


async def test_a_change_of_a_writer_whose_clock_is_ahead_does_not_wait_for_that(
    database: Reachable, clock: ManualClock
) -> None:
    states = WatchedStates(database, clock)
    await set_percent(database, 10, clock.now() + 3_600)
    await states.refresh()
    clock.advance(EFFECT_SECONDS)
    assert states.present().state.percent == 10


async def test_every_change_counts_in_the_reach_also_those_between_two_looks(
    database: Reachable, clock: ManualClock
) -> None:
    states = WatchedStates(database, clock)
    for percent in (5, 100, 0):
        await set_percent(database, percent, clock.now())
    await states.refresh()
    clock.advance(EFFECT_SECONDS)
    state, reach = states.present()
    assert state.percent == 0
    assert reach.includes("any", "document")


async def test_while_sql_is_away_the_last_state_holds_and_the_next_change_is_seen_afterwards(
    database: Reachable, clock: ManualClock
) -> None:
    states = WatchedStates(database, clock)
    await set_percent(database, 10, clock.now() - 60)
    await states.refresh()
    clock.advance(EFFECT_SECONDS)
    await set_percent(database, 20, clock.now())
    database.away = True
    await states.try_refresh()
    clock.advance(60)
    assert states.present().state.percent == 10
    database.away = False
    await states.try_refresh()
    clock.advance(EFFECT_SECONDS)
    assert states.present().state.percent == 20


async def test_until_a_state_is_known_requests_go_the_old_way_and_the_fleet_forgets_the_document(
    database: Reachable,
) -> None:
    """After a restart without SQL, an older version may be in the fleet."""
    old, new = Shelf(), Shelf()
    new.shown["t", "1"] = "v1"
    database.away = True
    async with TrafficRouter(old, new, database=database) as router:
        result = await router.ingest(IngestRequest("t", "1", "v2"))
        assert result == IngestResult(chunks=1, path=Path.SYNC)
        assert new.shown == {}
        assert router._states.present() == NOTHING_KNOWN
        database.away = False

        async def known() -> bool | None:
            return router._states.present() != NOTHING_KNOWN or None

        async with asyncio.timeout(HANG_SECONDS):
            await database.until(known, every_seconds=0.02)


async def rows(database: Reachable) -> int:
    return await database.read(
        lambda conn: conn.execute(select(func.count()).select_from(table)).scalar_one()
    )


async def test_counts_that_could_not_be_written_are_written_later_and_once(
    database: Reachable, clock: ManualClock
) -> None:
    counting = Counting(clock, Metrics())
    counting.answer(Path.ASYNC, 3, 0.5, 4)
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await counting.flush(database)
    clock.advance(SLICE_SECONDS)
    counting.fallback(3, "failed")
    database.away = False
    for _ in range(2):
        await counting.flush(database)
    assert await rows(database) == 2
    sums = await database.read(traffic_counts.sums)
    assert sums == {"async": Counts(2, 1, 1, 4, sums["async"].latencies)}


async def test_a_clock_that_is_set_back_overwrites_no_counts(database: Reachable, clock: ManualClock) -> None:
    counting = Counting(clock, Metrics())
    for _ in range(2):
        counting.answer(Path.SYNC, 1, 0.5, 1)
        await counting.flush(database)
        clock.advance(SLICE_SECONDS)
    await counting.flush(database)
    clock.advance(-2 * SLICE_SECONDS)
    counting.answer(Path.SYNC, 1, 0.5, 1)
    await counting.flush(database)
    assert (await database.read(traffic_counts.sums))["sync"].requests == 3


async def test_counts_of_slices_that_are_over_take_no_memory(database: Reachable, clock: ManualClock) -> None:
    counting = Counting(clock, Metrics())
    for _ in range(5):
        counting.answer(Path.SYNC, 1, 0.5, 1)
        await counting.flush(database)
        clock.advance(SLICE_SECONDS)
    database.away = True
    for _ in range(60):
        counting.answer(Path.SYNC, 1, 0.5, 1)
        clock.advance(SLICE_SECONDS)
        with pytest.raises(DatabaseUnavailable):
            await counting.flush(database)
    assert len(counting._totals) <= 32
