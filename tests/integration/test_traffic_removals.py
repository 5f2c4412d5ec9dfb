"""One version of a document is visible, whatever fails: removals are kept, repeated, and void in time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import Permanent, QuotaExceeded, ServerUnavailable
from embedfleet.metrics import Metrics
from embedfleet.records import removals
from embedfleet.traffic.paths import IngestRequest, IngestResult, Path
from embedfleet.traffic.removing import TRY_AGAIN_SECONDS
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.state import TrafficState
from embedfleet.traffic.state_watch import FixedStates
from support.hangs import HANG_SECONDS
from support.reachable import Reachable
from support.shelves import Shelf, ShowingShelf, visible
from support.statements import statements

NEW = TrafficState(percent=100)
OLD = TrafficState(percent=0)

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""The others run on both databases: they are about claims, which PostgreSQL runs side by side."""


def request(content: str = "some text", media_id: str = "1") -> IngestRequest:
    return IngestRequest("t", media_id, content)


def away() -> Exception:
    return ServerUnavailable("it does not answer")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Reachable]:
    database = Reachable(database_url)
    await database.open()
    yield database
    await database.close()


class Processes:
    """Routers that share their paths, state and database, as those of several processes do.

    Their services do not run: a test has them take steps, at the instant that it says.
    """

    def __init__(self, database: Reachable | None, clock: ManualClock, old: Shelf, new: Shelf) -> None:
        self._database = database
        self.clock = clock
        self.old, self.new = old, new
        self.states = FixedStates(OLD)
        self.states.set(NEW)
        self.metrics = Metrics()
        self.one, self.other = self.router(), self.router()

    def router(self) -> TrafficRouter:
        return TrafficRouter(
            self.old,
            self.new,
            database=self._database,
            states=self.states,
            clock=self.clock,
            metrics=self.metrics,
        )

    async def steps(self, *routers: TrafficRouter, after_seconds: float = TRY_AGAIN_SECONDS) -> None:
        """Let the time pass, then let these routers do the removals that are due."""
        self.clock.advance(after_seconds)
        for router in routers or (self.one, self.other):
            await router._removals.step(asyncio.Event())

    @property
    def database(self) -> Reachable:
        assert self._database is not None
        return self._database

    async def kept(self) -> dict[str, int]:
        return await self.database.read(removals.numbers)

    def visible(self, media_id: str = "1") -> list[str | None]:
        return visible(media_id, self.old, self.new)


@pytest.fixture
def processes(database: Reachable, clock: ManualClock) -> Processes:
    return Processes(database, clock, Shelf(), Shelf())


async def test_a_removal_that_fails_is_kept_in_sql_and_repeated_by_any_process(processes: Processes) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    result = await processes.one.ingest(request("v2"))
    assert result.path is Path.ASYNC
    assert processes.visible() == ["v1", "v2"]
    assert await processes.kept() == {"sync": 1}

    # The first process ends here. The other one tries, fails, and succeeds at last.
    await processes.steps(processes.other)
    assert processes.visible() == ["v1", "v2"]
    processes.old.removal_fails_with = None
    await processes.steps(processes.other, after_seconds=90)
    assert processes.visible() == [None, "v2"]
    assert await processes.kept() == {}
    await processes.steps(processes.other)
    gauge = ("embedding_traffic_kept_removals", {"path": "sync"})
    assert processes.metrics.registry.get_sample_value(*gauge) == 0


@on_sqlite
async def test_a_removal_is_void_when_its_path_has_answered_again(processes: Processes) -> None:
    """Otherwise it would take away what the path has just stored."""
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    await processes.one.ingest(request("v2"))
    processes.old.removal_fails_with = None
    processes.states.set(OLD)
    await processes.one.ingest(request("v3"))
    await processes.steps()
    assert processes.visible() == ["v3", None]


@on_sqlite
async def test_requests_side_by_side_pay_for_themselves_while_a_removal_is_kept(processes: Processes) -> None:
    """Each has its own removals to void, and does not write those of the others again."""
    processes.old.removal_fails_with = away
    await processes.one.ingest(request(media_id="kept"))
    processes.old.removal_fails_with = None

    async def written(requests: int) -> int:
        with statements() as executed:
            served = (processes.one.ingest(request(media_id=f"{requests}-{n}")) for n in range(requests))
            await asyncio.gather(*served)
        return sum(one.sql.startswith("DELETE FROM traffic_removals") for one in executed)

    few, many = await written(5), await written(50)
    assert few > 0
    assert many <= 10 * few


@on_sqlite
async def test_another_process_that_answers_voids_a_removal_of_which_it_has_not_heard(
    processes: Processes,
) -> None:
    """It has looked for removals before this one was kept, and its next look comes after its answer."""
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    await processes.steps(processes.other)  # it finds none
    await processes.one.ingest(request("v2"))
    processes.old.removal_fails_with = None
    processes.states.set(OLD)
    processes.clock.advance(0.5)
    await processes.other.ingest(request("v3"))
    assert await processes.kept() == {"sync": 1}
    await processes.steps(processes.other, after_seconds=1)
    await processes.steps()
    assert processes.visible() == ["v3", None]


async def test_a_removal_under_way_in_another_process_ends_before_its_path_ingests(
    processes: Processes,
) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    await processes.one.ingest(request("v2"))
    processes.old.removal_fails_with = None
    processes.old.removal_gate.clear()
    processes.old.arrived.clear()
    step = asyncio.create_task(processes.steps(processes.one))
    await processes.old.arrived.wait()
    processes.states.set(OLD)
    again = asyncio.create_task(processes.other.ingest(request("v3")))
    for _ in range(2):  # it asks twice: after the first time it knew that it must wait
        processes.database.asked.clear()
        await processes.database.asked.wait()
    assert processes.old.calls == []
    processes.old.removal_gate.set()
    await asyncio.gather(step, again)
    assert processes.visible() == ["v3", None]
    assert await processes.kept() == {}


@on_sqlite
async def test_a_removal_is_not_done_while_its_path_ingests_the_document_however_long_that_takes(
    processes: Processes,
) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    await processes.one.ingest(request("v2"))
    processes.old.removal_fails_with = None
    processes.states.set(OLD)
    processes.old.gate.clear()
    processes.old.arrived.clear()
    again = asyncio.create_task(processes.one.ingest(request("v3")))
    await processes.old.arrived.wait()
    processes.old.removals.clear()
    await processes.steps(processes.other, after_seconds=300)
    assert processes.old.removals == []
    processes.old.gate.set()
    await again
    await processes.steps(after_seconds=1_000)
    assert processes.visible() == ["v3", None]


@on_sqlite
async def test_a_request_does_not_wait_for_sql_again_and_again_while_it_is_away(processes: Processes) -> None:
    processes.old.removal_fails_with = away
    await processes.one.ingest(request("v1"))
    processes.database.away = True
    await processes.one.ingest(request("v2"))
    processes.database.asked.clear()
    await processes.one.ingest(request("v3"))
    assert not processes.database.asked.is_set()
    processes.database.away = False
    processes.old.removal_fails_with = None
    await processes.steps()
    await processes.steps()
    assert processes.visible() == [None, "v3"]
    assert await processes.kept() == {}


@on_sqlite
async def test_a_submission_whose_outcome_is_unknown_is_removed_later_too(processes: Processes) -> None:
    """A request that was on its way when its time was over may arrive after the first removal."""
    processes.new.fails_with = TimeoutError
    result = await processes.one.ingest(request("v1"))
    assert (result.path, processes.new.removals) == (Path.SYNC, ["1"])
    processes.new.shown["t", "1"] = "v1"  # here it arrives
    await processes.steps(after_seconds=59)
    assert processes.visible() == ["v1", "v1"]
    await processes.steps(after_seconds=2)
    assert processes.visible() == ["v1", None]
    assert await processes.kept() == {}


@on_sqlite
async def test_a_refusal_leaves_nothing_that_must_be_removed_later(processes: Processes) -> None:
    processes.new.fails_with = lambda: QuotaExceeded("full", limit=1, used=1, retry_after=None)
    await processes.one.ingest(request("v1"))
    assert processes.new.removals == ["1"]
    assert await processes.kept() == {}


@on_sqlite
async def test_the_version_before_is_shown_until_readers_see_the_one_that_was_accepted(
    processes: Processes,
) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.new.accepts_only = True
    result = await processes.one.ingest(request("v2"))
    assert (result.visible, result.job_id) == (False, "job of v2")
    await processes.steps()
    assert processes.visible() == ["v1", None]
    processes.new.complete()
    await processes.steps()
    assert processes.visible() == [None, "v2"]
    assert await processes.kept() == {}


@on_sqlite
async def test_the_version_before_stays_if_the_fleet_gives_up_what_it_had_accepted(
    processes: Processes,
) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.new.accepts_only = True
    await processes.one.ingest(request("v2"))
    processes.new.accepted.clear()
    await processes.steps()
    assert processes.visible() == ["v1", None]
    assert await processes.kept() == {}


@on_sqlite
async def test_while_sql_is_away_a_removal_waits_in_memory(processes: Processes) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    processes.database.away = True
    await processes.one.ingest(request("v2"))
    processes.old.removal_fails_with = None
    await processes.steps()
    assert processes.visible() == ["v1", "v2"]
    processes.database.away = False
    await processes.steps()  # it is saved now, and done when every process has had time to void it
    assert await processes.kept() == {"sync": 1}
    await processes.steps()
    assert processes.visible() == [None, "v2"]
    assert await processes.kept() == {}


@on_sqlite
async def test_a_router_that_ends_leaves_what_it_kept_to_others(processes: Processes) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    async with processes.router() as router:
        processes.database.away = True
        await router.ingest(request("v2"))
        processes.database.away = False
    assert await processes.kept() == {"sync": 1}


@on_sqlite
async def test_an_answer_while_sql_is_away_voids_the_removal_before_another_process_does_it(
    processes: Processes,
) -> None:
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    await processes.one.ingest(request("v2"))
    await processes.steps()
    processes.old.removal_fails_with = None
    processes.states.set(OLD)
    processes.database.away = True
    await processes.one.ingest(request("v3"))
    await processes.steps(after_seconds=90)
    processes.database.away = False
    # The process that does not know is the first to look again.
    await processes.steps(processes.other, processes.one, after_seconds=1)
    await processes.steps(processes.other, processes.one, after_seconds=90)
    assert processes.visible() == ["v3", None]
    assert await processes.kept() == {}


@pytest.mark.parametrize(("shelf", "shown"), [(Shelf, ["v1", "v2"]), (ShowingShelf, [None, "v2"])])
@on_sqlite
async def test_a_removal_that_comes_too_late_is_done_only_if_the_other_path_has_the_document(
    database: Reachable, clock: ManualClock, shelf: type[Shelf], shown: list[str | None]
) -> None:
    """An answer that voids it may be forgotten by now: the other process keeps it in memory for a minute."""
    processes = Processes(database, clock, shelf(), shelf())
    for media_id in ("1", "2"):
        processes.old.shown["t", media_id] = "v1"
    processes.old.removal_fails_with = away
    database.away = True
    await processes.one.ingest(request("v2", "1"))
    await processes.one.ingest(request("v2", "2"))
    database.away = False
    processes.old.removal_fails_with = None
    processes.states.set(OLD)
    await processes.other.ingest(request("v3", "2"))
    for _ in range(3):
        await processes.steps(processes.other, after_seconds=70)
    for _ in range(3):
        await processes.steps()
    assert processes.visible("1") == shown
    assert processes.visible("2") == ["v3", None]
    assert await processes.kept() == {}


async def test_without_a_database_removals_are_kept_in_memory(clock: ManualClock) -> None:
    processes = Processes(None, clock, Shelf(), Shelf())
    processes.old.shown["t", "1"] = "v1"
    processes.old.removal_fails_with = away
    await processes.one.ingest(request("v2"))
    processes.old.removal_fails_with = None
    await processes.steps()
    assert processes.visible() == [None, "v2"]


@on_sqlite
async def test_a_request_whose_path_changed_while_it_was_served_is_served_again(processes: Processes) -> None:
    """Another process has followed the change before: it has the document on the other path by now."""
    processes.states.set(OLD)
    processes.new.removal_gate.clear()
    processes.new.arrived.clear()
    first = asyncio.create_task(processes.one.ingest(request("v1")))
    await processes.new.arrived.wait()  # stored on the old path; its removal from the fleet is on its way
    processes.states.set(NEW)
    second = await processes.other.ingest(request("v2"))
    assert second.path is Path.ASYNC
    processes.new.removal_gate.set()  # it arrives only now, and takes away what the other process has stored
    assert (await first).path is Path.ASYNC
    assert processes.visible() == [None, "v1"]


async def test_a_thread_over_its_time_is_waited_for_and_what_it_stored_is_removed(
    clock: ManualClock,
) -> None:
    goes_on = threading.Event()
    old, new = Shelf(), SlowShelf(goes_on)
    states = FixedStates(NEW)
    async with TrafficRouter(old, new, states=states, clock=clock, async_limit_seconds=0.01) as router:
        try:
            first = await router.ingest(request("v1"))
            assert first.path is Path.SYNC
            states.set(OLD)
            second = asyncio.create_task(router.ingest(request("v2")))
            await router.ingest(request("another", "2"))
            assert old.calls == ["v1", "another"]  # the document's turn is still that of the thread
        finally:
            goes_on.set()
        await second
    assert new.stored == ["v1"]
    assert (old.shown["t", "1"], new.shown) == ("v2", {})


class SlowShelf:
    """A path that is a plain function: it stores when its event is set, also if it is not waited for."""

    def __init__(self, goes_on: threading.Event) -> None:
        self._goes_on = goes_on
        self.stored: list[str] = []
        self.shown: dict[tuple[str, str], str] = {}

    def __call__(self, request: IngestRequest) -> IngestResult:
        self._goes_on.wait(HANG_SECONDS)
        self.stored.append(request.content)
        self.shown[request.tenant, request.media_id] = request.content
        return IngestResult(chunks=1)

    async def remove(self, tenant: str, media_id: str) -> None:
        self.shown.pop((tenant, media_id), None)


@dataclass(frozen=True, slots=True)
class Weather:
    """What goes wrong beside the paths. `crashes`: a process ends and loses its memory; another one begins.

    Only paths that can be asked for a document (`shelf`) stand these two, and each alone: what is kept in
    memory while SQL is away is lost with its process.
    """

    shelf: type[Shelf]
    sql_goes_away: bool = False
    crashes: bool = False


WEATHERS = [Weather(Shelf), Weather(ShowingShelf, sql_goes_away=True), Weather(ShowingShelf, crashes=True)]


@pytest.mark.parametrize(
    ("database_url", "seed"),
    [("postgresql", 0), ("sqlite", 0), ("sqlite", 1), ("sqlite", 2)],
    indirect=["database_url"],
)
async def test_whatever_fails_each_document_is_visible_once_in_its_last_version(
    database: Reachable, clock: ManualClock, seed: int
) -> None:
    await survive(database, clock, seed)


@pytest.mark.slow
@on_sqlite
async def test_whatever_fails_each_document_is_visible_once_in_many_runs(
    database: Reachable, clock: ManualClock
) -> None:
    for seed in range(3, 63):
        await survive(database, clock, seed)


async def survive(database: Reachable, clock: ManualClock, seed: int) -> None:
    """Two processes, state changes and failures in the middle of requests; only the old path never fails."""
    weather = WEATHERS[seed % len(WEATHERS)]
    processes = Processes(database, clock, weather.shelf(), weather.shelf())
    rng = random.Random(seed)
    routers = [processes.one, processes.other]
    last: dict[str, str] = {}

    async def send(media_id: str) -> None:
        for number in range(10):
            database.away = weather.sql_goes_away and rng.random() < 0.1
            processes.states.set(TrafficState(percent=rng.choice([0, 30, 60, 100]), sticky_by="document"))
            processes.new.fails_with = rng.choice([None, None, away, TimeoutError, lambda: Permanent("no")])
            processes.new.stores_then_fails = rng.random() < 0.5
            processes.new.removal_fails_with = rng.choice([None, None, away])
            processes.old.removal_fails_with = rng.choice([None, None, away])
            last[media_id] = f"{media_id}.{number}"
            await rng.choice(routers).ingest(request(last[media_id], media_id))
            if weather.crashes and rng.random() < 0.2:
                routers[rng.randrange(2)] = processes.router()
            # Every process takes a step at least once a second. No two instants of a document are equal.
            pause = rng.choice([0.01, 0.2, 1.0, 4.0, 30.0])
            clock.advance(pause)
            if pause >= 1:
                await processes.steps(*rng.sample(routers, 2), after_seconds=0.0)

    await asyncio.gather(*(send(f"d{number}") for number in range(6)))
    database.away = False
    processes.new.fails_with = processes.new.removal_fails_with = processes.old.removal_fails_with = None
    for seconds in (1, 70, 70, 70):
        await processes.steps(*routers, after_seconds=seconds)
    assert await processes.kept() == {}
    shown = {key[1]: text for shelf in (processes.old, processes.new) for key, text in shelf.shown.items()}
    assert len(processes.old.shown) + len(processes.new.shown) == len(last)
    assert shown == last
