"""The router over a real database: one path answers, the other forgets, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path as FilePath

import pytest
from sqlalchemy import Connection

from embedfleet.clock import Clock, ManualClock, SystemClock
from embedfleet.errors import InvalidRequest, PathRetired, Permanent, QuotaExceeded, Remedy, ServerUnavailable
from embedfleet.metrics import Metrics
from embedfleet.records import traffic_counts
from embedfleet.records.traffic_counts import CountKey, Counts
from embedfleet.sql.database import Database
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.changes import change_state, present_state
from embedfleet.traffic.paths import IngestFunction, IngestRequest, IngestResult, Path
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.state import Retirement, TrafficState
from embedfleet.traffic.state_watch import FixedStates
from support.hangs import HANG_SECONDS
from support.shelves import Shelf, visible

NEW = TrafficState(percent=100)
OLD = TrafficState(percent=0)
RETIRED = TrafficState(percent=100, retirement=Retirement(at=5.0, final_at=9.0))


def request(media_id: str = "1", content: str = "some text", tenant: str = "t") -> IngestRequest:
    return IngestRequest(tenant, media_id, content)


def away() -> Exception:
    return ServerUnavailable("the fleet does not answer")


@pytest.fixture
async def database(tmp_path: FilePath) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}", synchronous="normal")
    await database.open()
    yield database
    await database.close()


async def set_state(database: Database, **fields: object) -> TrafficState:
    def unit(conn: Connection) -> TrafficState | None:
        before = present_state(conn)
        after = before.model_copy(update=fields)
        return change_state(
            conn, before, after, actor="local", action="set", reason=None, now=SystemClock().now()
        )

    changed = await database.write(unit)
    assert changed is not None
    return changed


async def goes(database: Database, router: TrafficRouter, sent: IngestRequest, path: Path) -> None:
    """Send the request until it goes that way."""

    async def look() -> bool | None:
        return (await router.ingest(sent)).path is path or None

    async with asyncio.timeout(HANG_SECONDS):
        await database.until(look, every_seconds=0.02)


class Scene:
    """A router between two shelves. Its state is set by the test, without SQL."""

    def __init__(self, state: TrafficState = OLD) -> None:
        self.old, self.new = Shelf(), Shelf()
        self.states = FixedStates(state)
        self.metrics = Metrics()

    def routed(
        self,
        database: Database | None = None,
        *,
        async_limit_seconds: float = HANG_SECONDS,
        clock: Clock | None = None,
    ) -> TrafficRouter:
        return TrafficRouter(
            self.old,
            self.new,
            database=database,
            states=self.states,
            metrics=self.metrics,
            async_limit_seconds=async_limit_seconds,
            clock=clock,
        )

    def visible(self, media_id: str = "1") -> list[str | None]:
        return visible(media_id, self.old, self.new)


async def test_changes_in_sql_move_the_requests_of_a_running_router_and_back(database: Database) -> None:
    old, new = Shelf(), Shelf()
    async with TrafficRouter(old, new, database=database) as router:
        assert (await router.ingest(request(content="v1"))).path is Path.SYNC
        assert visible("1", old, new) == ["v1", None]
        assert new.removals == []  # nothing was ever sent there

        for percent, path, shown in ((100.0, Path.ASYNC, [None, "v"]), (0.0, Path.SYNC, ["v", None])):
            await set_state(database, percent=percent)
            await goes(database, router, request(content="v"), path)
            assert visible("1", old, new) == shown


async def test_counts_reach_sql_under_the_change_that_decided(database: Database) -> None:
    old, new = Shelf(), Shelf()
    changed = await set_state(database, percent=100, deny_tenants=frozenset({"old"}))
    async with TrafficRouter(old, new, database=database) as router:
        await goes(database, router, request(content="one two"), Path.ASYNC)
        await router.ingest(request(content="one two three", tenant="old"))
        new.fails_with = lambda: Permanent("given up")
        await router.ingest(request())
        new.fails_with = lambda: InvalidRequest("content: is empty")
        with pytest.raises(InvalidRequest):
            await router.ingest(request())
    sums = await database.read(lambda conn: traffic_counts.sums(conn, first_change=changed.change_id))
    fleet, sync = sums["async"], sums["sync"]
    assert (fleet.requests, fleet.errors, fleet.fallbacks, fleet.chunks) == (3, 1, 1, 2)
    assert (sync.requests, sync.errors, sync.fallbacks, sync.chunks) == (2, 0, 0, 5)
    assert sum(fleet.latencies.values()) == 1
    assert sum(sync.latencies.values()) == 2


async def test_a_plain_function_runs_in_a_thread() -> None:
    threads: list[str] = []

    def plain(request: IngestRequest) -> IngestResult:
        threads.append(threading.current_thread().name)
        return IngestResult(chunks=1)

    async with TrafficRouter(plain, Shelf()) as router:
        assert await router.ingest(request()) == IngestResult(chunks=1, path=Path.SYNC)
    assert threads[0].startswith("traffic-path")


async def _cancels_itself(_: IngestRequest) -> IngestResult:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (lambda _: None, "returned None, and not an IngestResult"),
        (lambda _: "a secret text", "returned a value of type str, and not an IngestResult"),
        (_cancels_itself, "cancelled its own call"),
    ],
    ids=["None", "a text", "a cancellation"],
)
async def test_a_path_that_does_not_answer_as_a_path_has_failed(path: IngestFunction, words: str) -> None:
    scene = Scene()
    async with asyncio.timeout(HANG_SECONDS), TrafficRouter(path, scene.new) as router:
        with pytest.raises((TypeError, RuntimeError), match=words):
            await router.ingest(request())
    async with (
        asyncio.timeout(HANG_SECONDS),
        TrafficRouter(scene.old, path, states=FixedStates(NEW)) as router,
    ):
        assert (await router.ingest(request())).path is Path.SYNC


def test_what_is_no_function_is_no_path() -> None:
    with pytest.raises(InvalidRequest, match="must be a function of a request, not a value of type str"):
        TrafficRouter("sync", Shelf())  # type: ignore[arg-type]


def test_a_number_as_media_id_is_its_text() -> None:
    assert IngestRequest("t", 7, "text") == IngestRequest("t", "7", "text")  # type: ignore[arg-type]


async def test_a_request_that_is_wrong_in_itself_is_not_asked_again() -> None:
    scene = Scene(NEW)
    scene.new.fails_with = lambda: InvalidRequest("content: is empty")
    async with scene.routed() as router:
        with pytest.raises(InvalidRequest, match="is empty"):
            await router.ingest(request())
    assert scene.old.calls == []


@pytest.mark.parametrize(
    "failure",
    [
        away,
        lambda: QuotaExceeded("too many", limit=1, used=1, retry_after=None),
        lambda: Permanent("given up"),
        lambda: ConnectionResetError("gone"),
        lambda: KeyError("a defect"),
    ],
)
async def test_what_the_fleet_fails_goes_the_old_way_and_one_version_stays(
    failure: Callable[[], Exception],
) -> None:
    scene = Scene(NEW)
    async with scene.routed() as router:
        await router.ingest(request(content="v1"))
        scene.new.fails_with = failure
        result = await router.ingest(request(content="v2"))
    assert (result.path, scene.visible()) == (Path.SYNC, ["v2", None])


async def test_a_fleet_that_hangs_costs_its_time_limit_and_then_the_request_goes_the_old_way() -> None:
    scene = Scene(NEW)
    scene.new.gate.clear()
    async with scene.routed(async_limit_seconds=0.01) as router:
        result = await router.ingest(request())
    assert result.path is Path.SYNC
    assert scene.visible() == ["some text", None]


async def test_if_both_fail_the_caller_has_the_error_of_the_old_path() -> None:
    scene = Scene(NEW)
    scene.new.fails_with = away
    scene.old.fails_with = lambda: RuntimeError("mine")
    async with scene.routed() as router:
        with pytest.raises(RuntimeError, match="mine"):
            await router.ingest(request())
    assert (scene.old.removals, scene.new.removals) == ([], [])


async def test_what_is_late_in_the_fleet_stays_there_if_the_old_path_fails_too() -> None:
    """The fleet has the only version then: a removal would lose the document."""
    scene = Scene(NEW)
    released = threading.Event()

    class LateFleet(Shelf):
        def __call__(self, sent: IngestRequest) -> IngestResult:  # type: ignore[override]
            assert released.wait(HANG_SECONDS)
            self.shown[sent.tenant, sent.media_id] = sent.content
            return IngestResult(chunks=1)

    scene.new = LateFleet()
    scene.old.fails_with = away
    async with scene.routed(async_limit_seconds=0.0) as router:
        with pytest.raises(ServerUnavailable):
            await router.ingest(request(content="v1"))
        released.set()
    assert scene.visible() == [None, "v1"]
    assert scene.new.removals == []


async def test_a_retired_path_answers_nothing_and_the_fleet_s_error_is_the_request_s(
    database: Database,
) -> None:
    scene = Scene(RETIRED)
    scene.new.fails_with = away
    async with scene.routed(database) as router:
        for _ in range(10):  # more than make the router leave the fleet alone
            with pytest.raises(ServerUnavailable):
                await router.ingest(request())
        assert len(scene.new.calls) == 10, "nothing else could answer, so it was asked each time"
        scene.new.fails_with = None
        assert (await router.ingest(request(content="v1"))).path is Path.ASYNC
        with pytest.raises(PathRetired, match=r"retired since 1970-01-01T00:00:05") as refused:
            await router.ingest_the_old_way(request(content="v2"))
        assert refused.value.remedy is Remedy.RESTORE_OLD_PATH
        assert scene.visible() == [None, "v1"]
        scene.states.set(NEW)
        await router.ingest_the_old_way(request(content="v2"))
        assert scene.visible() == ["v2", None]
    assert scene.old.calls == ["v2"]
    fleet = (await database.read(traffic_counts.sums))["async"]
    assert (fleet.requests, fleet.errors, fleet.fallbacks) == (11, 10, 0)


async def test_a_process_that_routes_falls_back_while_the_fleet_is_down_with_its_leader(
    database: Database,
) -> None:
    operator = TrafficAdministration(database, SystemClock(), actor="local")
    state = await operator.plan([10, 20], hold_seconds=60, max_error_rate=0.01, max_p99_ratio=1.5)
    key = CountKey(int(SystemClock().now()), "another process", "async", state.change_id)
    await database.write(lambda conn: traffic_counts.record(conn, {key: Counts(40, 40, 40)}))

    async def has_gone_back() -> bool | None:
        return (await operator.show()).state.percent == 0 or None

    async with TrafficRouter(Shelf(), Shelf(), database=database), asyncio.timeout(HANG_SECONDS):
        await database.until(has_gone_back)


async def test_a_dead_fleet_is_left_alone_after_five_failures() -> None:
    scene = Scene(NEW)
    scene.new.fails_with = away
    async with scene.routed() as router:
        for number in range(8):
            assert (await router.ingest(request(str(number)))).path is Path.SYNC
    assert len(scene.new.calls) == 5
    assert (
        scene.metrics.registry.get_sample_value("embedding_traffic_fallbacks_total", {"reason": "circuit"})
        == 3
    )


async def test_a_dead_fleet_is_tried_by_single_requests_until_it_answers(clock: ManualClock) -> None:
    scene = Scene(NEW)
    scene.new.fails_with = away
    async with scene.routed(clock=clock) as router:
        for number in range(5):
            await router.ingest(request(str(number)))
        assert router.trouble.failure is not None
        clock.advance(1)
        scene.new.gate.clear()
        scene.new.arrived.clear()
        trying = asyncio.create_task(router.ingest(request("try")))
        await scene.new.arrived.wait()
        assert (await router.ingest(request("beside"))).path is Path.SYNC  # while one tries, others do not
        scene.new.gate.set()
        assert (await trying).path is Path.SYNC
        scene.new.fails_with = None
        clock.advance(1)
        assert (await router.ingest(request("too early"))).path is Path.SYNC  # the pause has doubled
        clock.advance(1)
        for name in ("try again", "and from now on"):
            assert (await router.ingest(request(name))).path is Path.ASYNC
        assert router.trouble.failure is None


async def test_requests_for_one_document_are_served_in_the_order_in_which_they_came() -> None:
    scene = Scene()
    async with scene.routed() as router:
        scene.old.gate.clear()
        first = asyncio.create_task(router.ingest(request(content="v1")))
        await scene.old.arrived.wait()
        scene.states.set(NEW)
        second = asyncio.create_task(router.ingest(request(content="v2")))
        third = asyncio.create_task(router.ingest(request(content="v3")))
        assert (await router.ingest(request("another"))).path is Path.ASYNC
        assert scene.visible() == [None, None]  # none has overtaken the first
        scene.old.gate.set()
        await asyncio.gather(first, second, third)
    assert scene.visible() == [None, "v3"]


async def test_a_caller_that_is_cancelled_does_not_leave_a_document_on_both_paths() -> None:
    scene = Scene()
    async with scene.routed() as router:
        await router.ingest(request(content="v1"))
        scene.states.set(NEW)
        scene.old.removal_gate.clear()
        scene.old.arrived.clear()
        caller = asyncio.create_task(router.ingest(request(content="v2")))
        await scene.old.arrived.wait()  # stored in the fleet, not yet removed from the old path
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        scene.old.removal_gate.set()
    assert scene.visible() == [None, "v2"]


async def test_a_removal_takes_the_document_from_both_paths() -> None:
    scene = Scene()
    async with scene.routed() as router:
        await router.ingest(request(content="v1"))
        scene.states.set(NEW)
        scene.new.shown["t", "1"] = "left there"
        await router.remove("t", "1")
        assert scene.visible() == [None, None]
        scene.old.removal_fails_with = lambda: RuntimeError("disk")
        with pytest.raises(RuntimeError, match="disk"):
            await router.remove("t", "1")


async def test_a_path_that_is_retired_for_good_is_not_called_any_more() -> None:
    scene = Scene(TrafficState(percent=100, retirement=Retirement(at=0, final_at=1)))
    async with scene.routed() as router:
        await router.ingest(request())
    assert scene.old.removals == []
