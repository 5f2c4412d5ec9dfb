"""A campaign: all tenants are switched at once, with orders for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import func, select

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import SystemClock
from embedfleet.model_switching import backfill
from embedfleet.model_switching.administration import SwitchAdministration
from embedfleet.model_switching.backfill import Backfill
from embedfleet.model_switching.schemas import SwitchInfo
from embedfleet.model_switching.selection import Selection
from embedfleet.queue_schemas import ReceiptState, UserTier
from embedfleet.records import model_switches as switch_records
from embedfleet.records.audit import LOCAL
from embedfleet.records.model_switches import BACKFILL_FLOW, ModelSwitch
from embedfleet.searching.search import SearchRequest
from embedfleet.sql import tables
from embedfleet.sql.model_tables import model_switches
from embedfleet.sql.states import SwitchPhase
from support import experiments
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.model_switches import MODELS, NEW, OLD, begin, document, switch_of, until_phase
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.statements import statements
from support.system import Configure, Running, running, take_ledger, until

EVERYONE = Selection(all_tenants=True)
MOST_TENANTS = 3


def door_of(fleet: Running | StagesByHand) -> SwitchAdministration:
    system = fleet.system
    return SwitchAdministration(system.database, SystemClock(), system.settings, system.catalogue, actor="op")


async def fill(fleet: Running, tenants: range) -> None:
    """Each tenant gets a document. That of the last one has neither a title nor a heading."""
    job_ids = []
    for number in tenants:
        fields = document(number)
        if number == tenants[-1]:
            fields |= {"title": "", "content": "words of winter", "content_type": "text"}
        job_ids.append(await fleet.submit(**fields, user_id=name_of(number)))
    for job_id in job_ids:
        await fleet.jobs.of_all_tenants().wait(job_id, timeout_seconds=HANG_SECONDS)


def name_of(number: int) -> str:
    return f"tenant-{number:03}"


async def every_switch(fleet: Running, campaign: str) -> list[SwitchInfo]:
    door = door_of(fleet)
    found: list[SwitchInfo] = []
    after: str | None = None
    while True:
        page = await door.list_switches(campaign=campaign, ended=True, limit=100, after=after)
        found += page
        if page.next_cursor is None:
            return found
        after = page.next_cursor


async def until_all(fleet: Running, campaign: str, *phases: SwitchPhase) -> list[SwitchInfo]:
    """Return the switches of the campaign when each is in one of the phases, however many there are."""
    table = model_switches
    others = select(func.count()).where(table.c.campaign == campaign, table.c.phase.not_in(phases))
    left = len(await every_switch(fleet, campaign))

    async def fewer() -> bool:
        return await fleet.system.database.read(lambda conn: conn.execute(others).scalar_one()) < left

    while left := await fleet.system.database.read(lambda conn: conn.execute(others).scalar_one()):
        await until(fewer, fleet.system.database)
    return await every_switch(fleet, campaign)


async def most_at_a_time(fleet: Running) -> int:
    """Look again and again how many tenants have copies under way, until cancelled. Returns the most."""
    jobs = tables.jobs
    some = select(func.count(jobs.c.tenant.distinct())).where(
        jobs.c.flow == BACKFILL_FLOW, jobs.c.finished_at.is_(None)
    )
    most = 0

    async def look() -> None:
        nonlocal most
        most = max(most, await fleet.system.database.read(lambda conn: conn.execute(some).scalar_one()))

    with contextlib.suppress(asyncio.CancelledError):
        await fleet.system.database.until(look)
    return most


async def models_of(fleet: Running, tenants: list[str]) -> set[str | None]:
    answers = [
        await fleet.system.search.search(name, SearchRequest(query="winter", limit=5)) for name in tenants
    ]
    assert all(len(hits) == 1 for hits in answers)
    return {hits.model for hits in answers}


@pytest.mark.parametrize("tenants", [12, pytest.param(200, marks=pytest.mark.slow)])
async def test_a_campaign_is_begun_rolled_back_and_retired(configure: Configure, tenants: int) -> None:
    """One tenant is refused, and one is erased on the way: the others do not notice."""
    settings = configure(
        models=MODELS, model_switching={"most_tenants": MOST_TENANTS, "gate": {"max_latency_ratio": 1e6}}
    )
    async with running(settings) as fleet:
        await fill(fleet, range(tenants))
        door = door_of(fleet)
        estimate = await door.estimate(EVERYONE, to_model=NEW)
        assert (len(estimate.tenants), estimate.documents) == (tenants, tenants)
        begun = await door.begin(EVERYONE, to_model=NEW)
        [campaign] = {one.campaign for one in begun.switches}
        watching = asyncio.create_task(most_at_a_time(fleet))
        erasing = OperatorAdministration(fleet.system.database, SystemClock(), settings, actor=LOCAL)
        receipt_id = await erasing.delete_tenant(name_of(tenants // 2))
        seen = await until_all(fleet, campaign, SwitchPhase.SERVING, SwitchPhase.REFUSED)

        watching.cancel()
        assert 1 <= await watching <= MOST_TENANTS
        assert (await fleet.jobs.of_all_tenants().searched_receipt(receipt_id)).state is ReceiptState.ERASED
        [refused] = [one for one in seen if one.phase is SwitchPhase.REFUSED]
        assert refused.tenant_id == name_of(tenants - 1)
        assert len(seen) == tenants - 1
        served = [one.tenant_id for one in seen if one is not refused]
        assert await models_of(fleet, served) == {NEW}
        back = await door.rollback(Selection(campaign=campaign))
        assert (len(back.switches), back.refused) == (tenants - 1, ())
        assert await models_of(fleet, served) == {OLD}
        retired = await door.retire(Selection(campaign=campaign))
        assert (len(retired.switches), retired.refused) == (tenants - 1, ())
        ended = await until_all(fleet, campaign, SwitchPhase.ENDED)
        assert all(one.receipt is not None and not one.receipt.vectors_left for one in ended)
        assert await models_of(fleet, [*served, refused.tenant_id]) == {OLD}
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_space_that_is_kept_for_a_comparison_keeps_no_tenant_from_its_turn(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS, model_switching={"most_tenants": 1})
    async with running(settings) as fleet:
        await fill(fleet, range(3))
        compared = await experiments.begin(fleet, tenant=name_of(0), keep=True)
        await experiments.ended(fleet, compared.experiment_id)
        assert (await switch_of(fleet.system.database, name_of(0))).is_trial
        await begin(fleet, name_of(1))
        await until_phase(fleet, SwitchPhase.SERVING, tenant=name_of(1))


@on_both_databases
async def test_the_statements_of_an_order_grow_with_its_tenants_and_not_with_their_square(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    few, many = 4, 12
    counts: dict[str, list[int]] = {}
    for first, past in ((0, few), (few, many)):
        async with running(settings) as fleet:
            await until_none_runs(fleet)
            await fill(fleet, range(first, past))
        async with stages_by_hand(settings) as stages:
            door = door_of(stages)
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "estimate": partial(door.estimate, EVERYONE, to_model=NEW),
                "begin": partial(door.begin, EVERYONE, to_model=NEW),
                "throttle": partial(door.throttle, EVERYONE, most_jobs=5),
                "list": partial(door.list_switches, limit=many),
                "rollback": partial(door.rollback, EVERYONE),
                "retire": partial(door.retire, EVERYONE),
            }
            for name, call in calls.items():
                with statements() as executed:
                    await call()
                counts.setdefault(name, []).append(len(executed))
    for name, (of_few, of_many) in counts.items():
        # With three times the tenants, the square would be three times as many for each.
        assert of_many / many <= 1.5 * of_few / few, (name, counts)


async def until_none_runs(fleet: Running) -> None:
    database = fleet.system.database

    async def none_runs() -> bool:
        return not await database.read(switch_records.any_running)

    await until(none_runs, database)


async def test_a_switch_that_waits_for_orders_is_looked_at_ever_more_seldom(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many tenants that were switched, each is kept in step for days."""
    now = 1000.0
    monkeypatch.setattr(backfill, "monotonic", lambda: now)
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        await fill(fleet, range(2))
        switch = await begin(fleet, name_of(0))
        switch = await until_phase(fleet, SwitchPhase.SERVING, tenant=switch.tenant)
    async with stages_by_hand(settings) as stages:
        filling = Backfill(stages.system.database, SystemClock(), most_jobs=10, default_tier=UserTier.FREE)

        async def looks(one: ModelSwitch) -> bool:
            with statements() as executed:
                await filling.fill_at_times(one, 1.0)
            return bool(executed)

        looked: list[float] = []
        for _ in range(600):
            if await looks(switch):
                looked.append(now)
            now += 1.0
        pauses = [later - earlier for earlier, later in pairwise(looked)]
        assert pauses[:6] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
        assert set(pauses[5:]) == {60.0}
        # What may have opened a gap ends the rest.
        assert await looks(switch) is (now >= looked[-1] + 60.0)
        assert await looks(replace(switch, divergences=1))
        refused = replace(switch, phase=SwitchPhase.REFUSED)
        assert await looks(refused)
        # Of a switch that has ended, nothing is remembered.
        filling.forget_but([switch])
        assert not await looks(refused)
        filling.forget_but([])
        assert await looks(refused)
