"""The rows of moving in, over either database: changes are compare-and-set, counts may be written again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection, select

from embedfleet.clock import ManualClock
from embedfleet.leader.traffic_folding import TrafficFolding
from embedfleet.records import removals, traffic, traffic_counts
from embedfleet.records.removals import Removal, RemovalKey, Unclaimed
from embedfleet.records.traffic_counts import CountKey, Counts
from embedfleet.sql.database import Database
from embedfleet.sql.traffic_tables import traffic_counts as table
from embedfleet.traffic.changes import change_state, present_state
from embedfleet.traffic.state import NOTHING_MOVED, TrafficState


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


async def set_percent(database: Database, before: TrafficState, percent: float) -> TrafficState | None:
    def unit(conn: Connection) -> TrafficState | None:
        after = before.model_copy(update={"percent": percent})
        return change_state(conn, before, after, actor="local", action="set", reason="a test", now=5.0)

    return await database.write(unit)


async def test_of_writers_that_saw_the_same_state_one_gets_through(database: Database) -> None:
    assert await database.read(present_state) == NOTHING_MOVED
    results = await asyncio.gather(*(set_percent(database, NOTHING_MOVED, n) for n in range(1, 9)))
    (won,) = [state for state in results if state is not None]
    assert won.change_id == 1
    assert await database.read(present_state) == won
    later = await set_percent(database, won, 50)
    assert later is not None
    assert later.change_id == 2
    assert await set_percent(database, won, 60) is None
    # A state that never held leaves no gap.
    assert await set_percent(database, won.model_copy(update={"change_id": 7}), 60) is None


async def test_the_history_comes_in_pages_and_with_who_and_when(database: Database) -> None:
    state = NOTHING_MOVED
    for percent in (1, 5, 25):
        changed = await set_percent(database, state, percent)
        assert changed is not None
        state = changed
    first = await database.read(lambda conn: traffic.history(conn, limit=2, after=None))
    second = await database.read(lambda conn: traffic.history(conn, limit=2, after=first.next_cursor))
    assert [change.change_id for change in [*first, *second]] == [3, 2, 1]
    assert second.next_cursor is None
    assert (first[0].actor, first[0].action, first[0].reason, first[0].at) == ("local", "set", "a test", 5.0)
    after = await database.read(lambda conn: traffic.changes_after(conn, 1, 10))
    assert [change.change_id for change in after] == [2, 3]


async def test_totals_may_be_written_again_and_are_summed_up_by_path(database: Database) -> None:
    one = Counts(requests=3, errors=1, fallbacks=1, chunks=7, latencies={100: 2})
    more = Counts(requests=5, errors=1, fallbacks=1, chunks=9, latencies={100: 3, 120: 1})
    mine, other = CountKey(60, "a", "async", 2), CountKey(60, "b", "async", 3)
    for totals in ({mine: one}, {mine: more, other: one}, {mine: more}):
        await database.write(partial(traffic_counts.record, totals=totals))
    await database.write(lambda conn: traffic_counts.record(conn, {CountKey(120, "a", "sync", 2): one}))

    every = await database.read(traffic_counts.sums)
    assert every == {
        "async": Counts(8, 2, 2, 16, {100: 5, 120: 1}),
        "sync": Counts(3, 1, 1, 7, {100: 2}),
    }
    newer = await database.read(lambda conn: traffic_counts.sums(conn, first_change=3))
    assert newer == {"async": one}
    recent = await database.read(lambda conn: traffic_counts.sums(conn, since=61))
    assert recent == {"sync": one}


def removal(media_id: str, *, requested_at: float = 10.0, due_at: float = 10.0) -> Removal:
    return Removal(RemovalKey("t", media_id, "sync"), requested_at, due_at, None)


async def test_a_removal_is_claimed_once_until_its_claim_is_over(database: Database) -> None:
    kept = [removal("2"), removal("1", due_at=9), removal("3", due_at=50)]
    await database.write(lambda conn: removals.keep(conn, kept))

    async def due(now: float, limit: int = 10) -> list[str]:
        found = await database.read(lambda conn: removals.due(conn, now=now, limit=limit))
        return [one.key.media_id for one in found]

    assert await due(10) == ["1", "2"]
    assert await due(10, 1) == ["1"]
    claimed = await asyncio.gather(
        *(database.write(lambda conn: removals.claim(conn, kept[0].key, now=10, until=15)) for _ in range(4))
    )
    assert sorted(map(str, claimed)) == sorted([str(kept[0]), *[str(Unclaimed.BUSY)] * 3])
    assert await due(14) == ["1"]
    assert await due(15) == ["1", "2"]


async def test_a_removal_that_was_kept_again_outlives_the_end_of_the_one_before(database: Database) -> None:
    old, new = removal("1"), removal("1", requested_at=20, due_at=20)

    async def claim() -> Removal | Unclaimed:
        return await database.write(lambda conn: removals.claim(conn, new.key, now=11, until=12))

    await database.write(lambda conn: removals.keep(conn, [old]))
    assert await claim() == old
    await database.write(lambda conn: removals.keep(conn, [new]))
    await database.write(lambda conn: removals.drop(conn, [old]))
    await database.write(lambda conn: removals.put_off(conn, old, 99))
    await database.write(lambda conn: removals.drop_answered(conn, {new.key: 19.9}))
    assert await claim() == new
    assert await claim() is Unclaimed.BUSY
    await database.write(lambda conn: removals.put_off(conn, new, 30))
    assert await database.read(removals.numbers) == {"sync": 1}
    await database.write(lambda conn: removals.drop(conn, [new]))
    assert await database.read(removals.numbers) == {}
    assert await claim() is Unclaimed.ABSENT


async def test_an_answer_of_the_path_voids_the_removals_before_it(
    database: Database,
) -> None:
    await database.write(lambda conn: removals.keep(conn, [removal("1"), removal("2", requested_at=30)]))
    answered = {removal("1").key: 10.0, removal("2").key: 29.0, removal("3").key: 99.0}
    await database.write(lambda conn: removals.drop_answered(conn, answered))
    left = await database.read(lambda conn: removals.due(conn, now=99, limit=10))
    assert [one.key.media_id for one in left] == ["2"]


async def test_counts_of_an_hour_become_one_row_and_lose_nothing(
    database: Database, clock: ManualClock
) -> None:
    now = int(clock.now()) // 3_600 * 3_600 + 1_800
    clock.advance(now - clock.now())
    counted = Counts(1, 1, 1, 2, {7: 1})
    slices = [now - 3 * 3_600 + 60 * number for number in range(20)] + [now - 120, now - 180]
    for process in ("a", "b"):
        totals = {CountKey(at, process, "async", 4): counted for at in slices}
        await database.write(partial(traffic_counts.record, totals=totals))
    duty = TrafficFolding(database, clock)
    await asyncio.gather(duty.step(), duty.step())  # two leaders at once
    await duty.step()

    def look(conn: Connection) -> tuple[dict[str, Counts], list[int]]:
        rows = conn.execute(select(table.c.slice_at).order_by(table.c.slice_at)).scalars()
        return traffic_counts.sums(conn), list(rows)

    sums, rows = await database.read(look)
    assert sums == {"async": Counts(44, 44, 44, 88, {7: 44})}
    assert rows == [now - 1_800 - 3 * 3_600, now - 180, now - 180, now - 120, now - 120]
    clock.advance(500 * 86_400.0)
    await duty.step()
    assert (await database.read(look))[0] == {}
