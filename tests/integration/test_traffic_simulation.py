"""A whole move in one run: 10,000 requests, a plan, a burst of errors at 25%, another plan, the retirement.

The router, the guard, the state and SQLite are the real ones. The two paths keep their documents in memory,
so that what readers see can be compared exactly. Time passes only between batches of requests.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from pathlib import Path as FilePath

import pytest
from sqlalchemy import select

from embedfleet.clock import ManualClock
from embedfleet.errors import PathRetired, ServerUnavailable
from embedfleet.sql.database import Database
from embedfleet.sql.traffic_tables import traffic_removals
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.guarding import guard_step
from embedfleet.traffic.paths import IngestRequest, IngestResult, Path
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.state import PlanOutcome, TrafficState
from embedfleet.traffic.state_watch import EFFECT_SECONDS, WatchedStates
from support.hangs import HANG_SECONDS
from support.shelves import Shelf

BATCHES = 100
REQUESTS_A_BATCH = 100
TENANTS = 400
DOCUMENTS_A_TENANT = 5
Key = tuple[str, str]


class Fleet(Shelf):
    """A new path that can be sick: then four in ten requests fail, half of these after they were stored."""

    def __init__(self) -> None:
        super().__init__()
        self.is_sick = False
        self._dice = random.Random(1)

    async def _ingest(self, request: IngestRequest) -> IngestResult:
        await asyncio.sleep(0)  # other requests come in between
        fails = self.is_sick and self._dice.random() < 0.4
        self.fails_with = (lambda: ServerUnavailable("the fleet is sick")) if fails else None
        self.stores_then_fails = self._dice.random() < 0.5
        return await super()._ingest(request)


class Move:
    """The system under test, and what was seen of it."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database, self.clock = database, clock
        self.old, self.new = Shelf(), Fleet()
        self.states = WatchedStates(database, clock)
        self.router = TrafficRouter(self.old, self.new, database=database, states=self.states, clock=clock)
        self.operator = TrafficAdministration(database, clock, actor="local")
        self.answers = 0
        self.newest: dict[Key, str] = {}
        # By percentage: the tenants whose requests were asked of the fleet, and those whose were not.
        self.moved: dict[float, set[str]] = defaultdict(set)
        self.stayed: dict[float, set[str]] = defaultdict(set)
        self._dice = random.Random(2)

    async def begin_plan(self, *steps: float) -> None:
        # Both paths take microseconds, so their latencies are noise: no ratio of them may decide here.
        await self.operator.plan(steps, hold_seconds=5, max_error_rate=0.01, max_p99_ratio=1e6)
        await self.let_changes_hold()

    async def batch(self) -> TrafficState | None:
        """Send requests at once, and let a second pass. Return the state if the guard made one."""
        percent = self.states.present().state.percent
        requests = [self._request() for _ in range(REQUESTS_A_BATCH)]
        asked_before = len(self.new.calls)
        results = await asyncio.gather(*(self.router.ingest(one) for one in requests))
        self.answers += len([result for result in results if result.path is not None])
        asked = {content.split()[0] for content in self.new.calls[asked_before:]}
        self.moved[percent] |= asked
        if not self.new.is_sick:  # a router may leave a sick fleet alone
            self.stayed[percent] |= {one.tenant for one in requests} - asked
        await self.require_one_visible({(one.tenant, one.media_id) for one in requests})
        # As the router does it about once a second.
        await self.router._counting.flush(self.database)
        made = await guard_step(self.database, self.clock)
        await self.let_changes_hold()
        return made

    async def let_changes_hold(self) -> None:
        await self.states.refresh()
        self.clock.advance(2 * EFFECT_SECONDS)

    def _request(self) -> IngestRequest:
        tenant = f"tenant-{self._dice.randrange(TENANTS)}"
        media_id = str(self._dice.randrange(DOCUMENTS_A_TENANT))
        content = f"{tenant} {self._dice.random()}"
        self.newest[tenant, media_id] = content
        return IngestRequest(tenant=tenant, media_id=media_id, content=content)

    async def require_one_visible(self, keys: Iterable[Key]) -> None:
        """Each of the documents shows its newest version on one path, and on both only if its removal is
        kept."""
        table = traffic_removals
        rows = await self.database.read(
            lambda conn: conn.execute(select(table.c.tenant, table.c.media_id, table.c.path)).all()
        )
        kept = {(row.tenant, row.media_id, row.path) for row in rows}
        for key in keys:
            showing = {Path.SYNC: self.old.shown.get(key), Path.ASYNC: self.new.shown.get(key)}
            counted = {
                path: shown
                for path, shown in showing.items()
                if shown is not None and (*key, str(path)) not in kept
            }
            assert list(counted.values()) == [self.newest[key]], f"{key}: {showing}"

    async def removals_done(self) -> None:
        """Let the time pass after which the fleet may not answer any more, and wait."""
        self.clock.advance(60.0)

        async def look() -> bool | None:
            return not self.router._removals.any_kept or None

        async with asyncio.timeout(HANG_SECONDS):
            await self.database.until(look, every_seconds=0.05)


@pytest.fixture
async def move(tmp_path: FilePath, clock: ManualClock) -> AsyncIterator[Move]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}", synchronous="normal")
    await database.open()
    move = Move(database, clock)
    async with move.router:
        yield move
    await database.close()


async def test_ten_thousand_requests_move_to_the_fleet_through_a_burst_of_errors(move: Move) -> None:
    await move.begin_plan(10, 25, 50, 100)
    batches, percents = 0, [10.0]

    async def until_the_guard_acts() -> TrafficState:
        nonlocal batches
        while True:
            batches += 1
            made = await move.batch()
            if made is not None:
                percents.append(made.percent)
                return made

    # The first step is good. At 25% the fleet becomes sick.
    assert (await until_the_guard_acts()).percent == 25
    for _ in range(3):
        batches += 1
        assert await move.batch() is None
    move.new.is_sick = True
    before = batches
    back = await until_the_guard_acts()
    assert batches == before + 1, "it is back within one evaluation"
    assert back.plan is not None
    assert (back.percent, back.plan.outcome) == (10, PlanOutcome.BREACHED)

    # The fleet is well again. The second plan goes through, and the old path is retired.
    move.new.is_sick = False
    await move.removals_done()
    batches += 1
    assert await move.batch() is None, "the plan has stopped"
    await move.begin_plan(25, 50, 100)
    while (made := await until_the_guard_acts()).running_plan is not None:
        pass
    assert percents == [10, 25, 10, 50, 100, 100]
    assert made.plan is not None
    assert made.plan.outcome is PlanOutcome.FINISHED
    for _ in range(batches, BATCHES):
        assert await move.batch() is None
    retired = await move.operator.retire(after_seconds=20)
    await move.let_changes_hold()
    last = IngestRequest("tenant-1", "0", "tenant-1 again")
    assert (await move.router.ingest(last)).path is Path.ASYNC
    move.newest["tenant-1", "0"] = last.content
    with pytest.raises(PathRetired):
        await move.router.ingest_the_old_way(last)
    assert retired.retirement is not None

    assert move.answers == BATCHES * REQUESTS_A_BATCH == 10_000, "no request is lost"
    # A document stays where it was last ingested.
    assert not set(move.old.shown) & set(move.new.shown), "none is visible twice"
    assert move.old.shown | move.new.shown == move.newest, "none is lost, and each shows its newest version"
    for percent, moved in move.moved.items():
        for higher in (one for one in move.stayed if one >= percent):
            assert not moved & move.stayed[higher], f"moved back between {percent}% and {higher}%"
