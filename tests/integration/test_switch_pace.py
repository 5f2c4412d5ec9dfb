"""A backfill gives way to searches, and the twins of what is submitted wait for its next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, time
from typing import Any

from sqlalchemy import Connection

from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.clock import SystemClock
from embedfleet.metrics.search_times import SearchTime, SearchTimes
from embedfleet.model_switching import orders
from embedfleet.model_switching.giving_way import GivingWay
from embedfleet.records import jobs, outbox
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.sql.states import SwitchPhase
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.model_switches import MODELS, NEW, begin, document, switch_of, until_phase
from support.system import TENANT, Configure, Running, running, take_ledger, until

pytestmark = on_both_databases

# A step decides once at most, and begins one turn at most. The share falls to its least within 6 steps, and
# rises to more than at first within 10. So documents are left, however slow the machine is.
DOCUMENTS = 100
AT_FIRST = 6


class Searchers:
    """Stand-ins for searches: the system is told that many have ended, which took this long."""

    def __init__(self, times: SearchTimes) -> None:
        self._times = times
        self._since = monotonic()
        self.slow = False

    async def run(self) -> None:
        while True:
            now = monotonic()
            # A slow one has lasted since before the switch, so it met a turn.
            began = self._since if self.slow else now - 0.001
            for _ in range(50):
                self._times.note(SearchTime(began, now))
            await asyncio.sleep(0.01)


async def until_pace(fleet: Running, wanted: Callable[[int], bool]) -> None:
    """Wait until the switch says that documents are begun at such a number at a time."""

    async def reached() -> bool:
        switch = await switch_of(fleet.system.database)
        assert switch.phase is SwitchPhase.FILLING
        told = switch.findings.get("pace")
        return told is not None and wanted(told["jobs"])

    await until(reached, fleet.system.database)


async def test_the_pace_falls_with_slow_searches_and_rises_with_quick_ones(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        for job_id in [await fleet.submit(**document(number)) for number in range(DOCUMENTS)]:
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        searchers = Searchers(fleet.system.search.times)
        searching = asyncio.create_task(searchers.run())
        try:
            await begin(fleet)
            await until_pace(fleet, lambda jobs: jobs >= AT_FIRST)
            searchers.slow = True
            await until_pace(fleet, lambda jobs: jobs == 1)
            searchers.slow = False
            await until_pace(fleet, lambda jobs: jobs > AT_FIRST)
        finally:
            searching.cancel()
            await asyncio.gather(searching, return_exceptions=True)
        await until_phase(fleet, SwitchPhase.SERVING)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_new_order_begins_slowly_though_the_last_one_hardly_slowed_searches(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        for number, tenant in enumerate(("first", "second")):
            await fleet.ingest(**document(number), user_id=tenant)
    async with open_owner(settings, purpose="test") as system:
        searches = SearchTimes()
        giving_way = GivingWay(system.database, SystemClock(), searches, max_slowdown=1.5)

        async def shares(switches: list[ModelSwitch], steps: int) -> list[float | None]:
            found = []
            for _ in range(steps):
                for _ in range(50):
                    searches.note(SearchTime(monotonic() - 0.001, monotonic()))
                await giving_way.allowed(switches)
                found.append(giving_way.share)
            return found

        first = await begin_for(system, "first")
        first_share, *_, last_share = await shares([first], 30)
        assert last_share == 1.0
        second = await begin_for(system, "second")
        # The first one is kept in step by now.
        kept = replace(first, phase=SwitchPhase.SERVING, percent=100.0)
        assert (await shares([kept, second], 1))[0] == first_share
        assert (await shares([kept, second], 30))[-1] == 1.0


async def begin_for(system: OwnerSystem, tenant: str) -> ModelSwitch:
    wanted = orders.Wanted(system.catalogue.info(NEW))
    begun = await system.database.write(lambda conn: orders.begin(conn, [tenant], wanted, time()))
    return begun.switches[0]


async def submit(system: OwnerSystem, number: int) -> None:
    fields: dict[str, Any] = document(number)
    await system.jobs.create_job(user_id=TENANT, **fields)


async def test_a_twin_of_a_later_submission_is_offered_in_the_next_turn(configure: Configure) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:  # a switch needs a document that readers see
        await fleet.ingest(**document(0))
        await fleet.settled()
    async with open_owner(settings, purpose="test") as system:
        switch = await begin_for(system, TENANT)
        await submit(system, 1)
        turn = time()
        await submit(system, 2)

        def offered(conn: Connection, instant: float) -> list[bool]:
            """Of each job that is offered by a turn of this instant, whether it is a twin."""
            waiting = outbox.unoffered(conn, 100, twins_until={switch.switch_id: instant})
            found = jobs.lock_many(conn, [one.job_id for one in waiting])
            return sorted(found[one.job_id].switch_id is not None for one in waiting)

        assert await system.database.write(lambda conn: offered(conn, turn)) == [False, False, True]
        assert await system.database.write(lambda conn: offered(conn, time())) == [False, False, True, True]
