"""What operators do with the traffic, on both databases: changes, a plan that climbs, retirement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import Clock, ManualClock, SystemClock
from embedfleet.errors import InvalidRequest, NotReady, Remedy
from embedfleet.records import removals, traffic_counts
from embedfleet.records.removals import Removal, RemovalKey
from embedfleet.records.traffic_counts import CountKey, Counts
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.guard import Action
from embedfleet.traffic.guarding import guard_step
from embedfleet.traffic.latencies import class_of
from embedfleet.traffic.paths import Path
from embedfleet.traffic.state import NOTHING_MOVED, PlanOutcome, TrafficState
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import Configure, running

T = TypeVar("T")

HOUR = 3_600.0
DAY = 24 * HOUR


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure()


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    settings.data_dir.mkdir(exist_ok=True)
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def operator(database: Database, clock: ManualClock) -> TrafficAdministration:
    return TrafficAdministration(database, clock, actor="local")


async def counted(
    database: Database,
    clock: Clock,
    state: TrafficState,
    requests: int,
    *,
    path: Path = Path.ASYNC,
    errors: int = 0,
    fallbacks: int = 0,
) -> None:
    """What is counted of requests that were decided under this state: a row an hour, as the leader folds
    them."""
    key = CountKey(int(clock.now() // HOUR * HOUR), "process", path, state.change_id)
    counts = Counts(requests, errors, fallbacks, requests, {class_of(0.1): requests})
    await database.write(lambda conn: traffic_counts.record(conn, {key: counts}))


async def begun(
    operator: TrafficAdministration, steps: tuple[float, ...] = (1, 25, 100), *, hold_seconds: float = 60
) -> TrafficState:
    return await operator.plan(
        steps, hold_seconds=hold_seconds, max_error_rate=0.01, max_p99_ratio=1.5, reason="moving in"
    )


# --- changes ----------------------------------------------------------------------------------------


@on_both_databases
async def test_what_is_set_holds_and_is_kept_with_who_when_and_why(
    operator: TrafficAdministration, database: Database, settings: Settings, clock: ManualClock
) -> None:
    assert (await operator.show()).state == NOTHING_MOVED
    first = await operator.set(percent=10, deny_tenants=["big"], reason="a first try")
    clock.advance(60)
    second = await operator.set(percent=25, deny_tenants=[], allow_content_types=["code"])
    status = await operator.show()
    assert status.state == second
    assert status.change is not None
    assert (status.change.change_id, status.change.actor, status.change.action) == (2, "local", "set")
    newest, oldest = await operator.history()
    assert (oldest.state, oldest.reason) == (first, "a first try")
    assert (newest.at - oldest.at).total_seconds() == 60
    assert second == TrafficState(change_id=2, percent=25, allow_content_types=frozenset({"code"}))
    assert await operator.changes_after(1) == [newest]
    audit = await OperatorAdministration(database, clock, settings, actor="local").audit_log()
    assert [(one.action, one.details["percent"]) for one in audit] == [
        ("traffic.set", 25),
        ("traffic.set", 10),
    ]


async def test_what_changes_nothing_is_no_change(operator: TrafficAdministration) -> None:
    state = await operator.set(percent=10)
    assert await operator.set(percent=10, allow_tenants=[]) == state
    assert await operator.rollback() == await operator.rollback()
    assert [one.action for one in await operator.history()] == ["rollback", "set"]


@on_both_databases
async def test_of_two_writers_that_looked_at_the_same_change_one_is_told(
    operator: TrafficAdministration,
) -> None:
    seen = (await operator.set(percent=10)).change_id
    tries = [operator.set(percent=11 + n, expected_change_id=seen) for n in range(4)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, NotReady)]
    (made,) = [one for one in outcomes if isinstance(one, TrafficState)]
    assert len(refused) == 3
    assert {one.remedy for one in refused} == {Remedy.SHOW_TRAFFIC}
    assert (await operator.show()).state == made
    assert [one.change_id for one in await operator.history()] == [2, 1]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"percent": 101}, "percent"),
        ({"percent": float("nan")}, "percent"),
        ({"percent": 1.005}, "percent"),
        ({"sticky_by": "day"}, "sticky_by"),
        ({"allow_tenants": "one"}, "allow_tenants"),
        ({"deny_tenants": [""]}, "deny_tenants"),
        ({"deny_content_types": ["a\0"]}, "deny_content_types"),
        ({"percent": 1, "reason": "x" * 1_001}, "reason"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_its_name(
    operator: TrafficAdministration, wrong: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await operator.set(**wrong)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert await operator.history() == []


@pytest.mark.parametrize(
    ("steps", "limits", "field"),
    [
        ((), {}, "steps"),
        ((25, 10), {}, "steps"),
        ((0, 10), {}, "steps"),
        ((5, 100), {}, "steps"),  # 10% are there already
        ((10, 101), {}, "steps"),
        ((10,), {"max_error_rate": 0}, "max_error_rate"),
        ((10,), {"max_error_rate": 1}, "max_error_rate"),
        ((10,), {"max_p99_ratio": 0}, "max_p99_ratio"),
        ((10,), {"max_p99_ratio": float("inf")}, "max_p99_ratio"),
        ((10,), {"hold_seconds": -1}, "hold_seconds"),
    ],
)
async def test_a_plan_that_cannot_be_is_refused(
    operator: TrafficAdministration, steps: tuple[float, ...], limits: dict[str, float], field: str
) -> None:
    await operator.set(percent=10)
    values = {"hold_seconds": 60.0, "max_error_rate": 0.01, "max_p99_ratio": 1.5} | limits
    with pytest.raises(InvalidRequest) as refused:
        await operator.plan(steps, **values)  # type: ignore[arg-type]
    assert refused.value.field == field


# --- a plan, guarded ---------------------------------------------------------------------------------


@on_both_databases
async def test_a_plan_climbs_by_itself_and_finishes(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
    state = await begun(operator)
    percents = []
    for _ in range(3):
        percents.append(state.percent)
        await counted(database, clock, state, 400)
        assert await guard_step(database, clock) is None, "its time is not over"
        clock.advance(60)
        climbed = await guard_step(database, clock)
        assert climbed is not None
        state = climbed
    assert percents == [1, 25, 100]
    assert state.plan is not None
    assert (state.percent, state.plan.outcome) == (100, PlanOutcome.FINISHED)
    assert await guard_step(database, clock) is None, "the plan has ended"
    finish, *_, plan = await operator.history()
    assert (finish.actor, finish.action, plan.actor) == ("guard", "finish", "local")
    assert finish.reason is not None
    assert "0 of 400 (0%, limit 1%) failed" in finish.reason


async def test_a_breach_goes_back_and_stops_though_the_step_before_was_clean(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
    first = await begun(operator)
    await counted(database, clock, first, 100_000)
    clock.advance(60)
    second = await guard_step(database, clock)
    assert second is not None
    await counted(database, clock, first, 60, errors=60)  # the end of requests of the step before
    await counted(database, clock, second, 20, errors=1)
    assert await guard_step(database, clock) is None
    await counted(database, clock, second, 40, errors=9, fallbacks=9)
    view = (await operator.show()).guard
    assert view is not None
    assert view.action is Action.BACK
    back = await guard_step(database, clock)
    assert back is not None
    assert (back.percent, back.running_plan) == (1, None)
    (newest, *_) = await operator.history()
    assert (newest.actor, newest.action) == ("guard", "back")
    assert newest.reason is not None
    assert "9 of 40 (22.5%, limit 1%) failed" in newest.reason


@on_both_databases
async def test_guards_of_several_processes_make_one_change(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
    await counted(database, clock, await begun(operator), 400)
    clock.advance(60)
    made = await asyncio.gather(*(guard_step(database, clock) for _ in range(8)))
    assert len([one for one in made if one is not None]) == 1
    assert [one.action for one in await operator.history()] == ["climb", "plan"]


async def test_the_guard_gives_way_to_a_person(
    operator: TrafficAdministration, database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
    await counted(database, clock, await begun(operator), 400)
    clock.advance(60)
    read = database.read

    async def read_then_lose_the_race(look: Callable[[Connection], T]) -> T:
        found = await read(look)
        monkeypatch.setattr(database, "read", read)
        await operator.rollback()
        return found

    monkeypatch.setattr(database, "read", read_then_lose_the_race)
    assert await guard_step(database, clock) is None
    assert (await operator.show()).state.percent == 0


async def test_a_pause_stops_the_climb_and_not_the_way_back(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    with pytest.raises(NotReady, match="no plan is under way"):
        await operator.pause()
    await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
    state = await begun(operator)
    await counted(database, clock, state, 400)
    await operator.pause()
    clock.advance(HOUR)
    assert await guard_step(database, clock) is None
    await operator.resume()
    assert await guard_step(database, clock) is None, "the time of the step has begun again"
    clock.advance(60)
    state = await guard_step(database, clock) or state
    assert state.percent == 25
    await operator.pause()
    await counted(database, clock, state, 40, errors=9)
    back = await guard_step(database, clock)
    assert back is not None
    assert back.percent == 1


async def test_other_lists_begin_the_step_again_and_a_percentage_ends_the_plan(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
    await counted(database, clock, await begun(operator), 40, errors=9)
    state = await operator.set(deny_tenants=["broken"], reason="its files are all broken")
    assert await guard_step(database, clock) is None, "the errors were of requests that go the old way now"
    clock.advance(60)
    await counted(database, clock, state, 400)
    climbed = await guard_step(database, clock)
    assert climbed is not None
    assert climbed.percent == 25
    assert (await operator.set(percent=30)).plan is None


async def test_the_leader_of_a_running_system_looks_after_the_plan(settings: Settings) -> None:
    clock = SystemClock()
    async with running(settings) as system:
        database = system.system.database
        operator = TrafficAdministration(database, clock, actor="local")
        await counted(database, clock, NOTHING_MOVED, 1_000, path=Path.SYNC)
        await counted(database, clock, await begun(operator, (10, 20), hold_seconds=0), 400)

        async def climbed() -> TrafficState | None:
            state = (await operator.show()).state
            return state if state.percent == 20 else None

        async with asyncio.timeout(HANG_SECONDS):
            await database.until(climbed)


# --- retirement --------------------------------------------------------------------------------------


def kept_removal(conn: Connection) -> None:
    removals.keep(conn, [Removal(RemovalKey("me", "doc", Path.SYNC), requested_at=0.0, due_at=0.0)])


async def test_the_old_path_is_retired_only_when_it_was_not_needed(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    async def refusal() -> str:
        with pytest.raises(NotReady) as refused:
            await operator.retire(after_seconds=DAY)
        assert refused.value.remedy is Remedy.SHOW_TRAFFIC
        return str(refused.value)

    assert "0% and not 100%" in await refusal()
    await operator.set(percent=100, deny_tenants=["big"])
    assert "1 tenant or content type is denied" in await refusal()
    clock.advance(DAY)
    state = await operator.set(deny_tenants=[])
    clock.advance(DAY - 1)
    message = await refusal()
    assert "100% has held for 23h59m of 1d" in message
    assert "the fleet had no request within 1d" in message
    await counted(database, clock, state, 100, errors=1, fallbacks=1)
    clock.advance(10)
    assert "1 request fell back within 1d" in await refusal()
    clock.advance(DAY - 20)
    assert "1 request fell back within 1d" in await refusal(), "though its slice began before"
    # Also a change that keeps 100% lets the time go on.
    await operator.set(sticky_by="document")
    clock.advance(DAY + HOUR + 1)
    await counted(database, clock, state, 3, path=Path.SYNC)
    assert "the old path had 3 requests within 1d" in await refusal()
    clock.advance(DAY + HOUR + 1)
    await counted(database, clock, state, 100)
    await database.write(kept_removal)
    assert (await operator.show()).pending_removals == {"sync": 1}
    assert await refusal() == (
        "the old path cannot be retired yet: 1 document is still to be removed from the old path"
    )
    kept = Removal(RemovalKey("me", "doc", Path.SYNC), requested_at=0.0, due_at=0.0)
    await database.write(lambda conn: removals.drop(conn, [kept]))
    retired = await operator.retire(after_seconds=DAY)
    assert retired.retirement is not None


async def retired(operator: TrafficAdministration, database: Database, clock: ManualClock) -> TrafficState:
    await counted(database, clock, await operator.set(percent=100), 100)
    clock.advance(HOUR)
    return await operator.retire(after_seconds=HOUR, restorable_seconds=DAY)


async def test_a_retired_path_can_be_restored_for_a_time_and_nothing_else_changes(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    with pytest.raises(NotReady, match="is not retired"):
        await operator.restore()
    state = await retired(operator, database, clock)
    changes: list[Callable[[], Awaitable[TrafficState]]] = [
        operator.rollback,
        operator.retire,
        partial(operator.set, percent=5),
        partial(begun, operator),
    ]
    for change in changes:
        with pytest.raises(NotReady) as refused:
            await change()
        assert refused.value.remedy is Remedy.RESTORE_OLD_PATH
    clock.advance(DAY - 1)
    restored = await operator.restore(reason="not yet")
    assert restored == state.model_copy(update={"retirement": None, "change_id": restored.change_id})
    assert (await operator.rollback()).percent == 0


async def test_after_its_time_a_retirement_is_final(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    await retired(operator, database, clock)
    clock.advance(DAY)
    with pytest.raises(NotReady, match="retired for good: it could be restored until 20"):
        await operator.restore()


async def test_a_history_longer_than_a_page_is_looked_through(
    operator: TrafficAdministration, database: Database, clock: ManualClock
) -> None:
    state = await operator.set(percent=100)
    clock.advance(DAY)
    for number in range(120):
        state = await operator.set(allow_tenants=[f"tenant {number}"])
    await counted(database, clock, state, 100)
    assert (await operator.retire(after_seconds=DAY)).retirement is not None
