"""What operators order of switches to another model, and what they see of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from time import time

import pytest
import pytest_asyncio
from sqlalchemy import Connection, update

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, NotReady, UnknownModel, UnknownSwitch
from embedfleet.model_switching import orders
from embedfleet.model_switching.administration import SwitchAdministration
from embedfleet.model_switching.schemas import PaceSource, SwitchOrder
from embedfleet.model_switching.selection import Selection
from embedfleet.sql import tables
from embedfleet.sql.states import SwitchPhase
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.model_switches import MODELS, NEW, OLD, HeldCatalogue, document, until_phase
from support.system import TENANT, Configure, Running, running, until

MINE = Selection(TENANT)
PRICES = {"per_million_tokens": {NEW: 2.0}, "currency": "EUR"}


def door_of(fleet: Running, actor: str = "op") -> SwitchAdministration:
    system = fleet.system
    return SwitchAdministration(
        system.database, SystemClock(), system.settings, system.catalogue, actor=actor
    )


async def deeds(fleet: Running) -> list[tuple[str, str, str | None]]:
    """What the audit log has of switches, oldest first."""
    system = fleet.system
    log = OperatorAdministration(system.database, SystemClock(), system.settings, actor="op")
    found = [one for one in await log.audit_log() if one.action.startswith("model_switch.")]
    return [(one.action.removeprefix("model_switch."), one.actor, one.tenant_id) for one in reversed(found)]


@pytest_asyncio.fixture
async def fleet(configure: Configure) -> AsyncIterator[Running]:
    as_long = {"backend": "static", "dimensions": 64, "max_tokens": 512}
    models = {**MODELS, "catalogue": {**MODELS["catalogue"], "as_long": as_long}}
    async with running(configure(models=models, prices=PRICES)) as found:
        for number in range(3):
            await found.ingest(**document(number))
        yield found


@on_both_databases
async def test_a_switch_is_estimated_begun_and_seen_to_its_end(fleet: Running) -> None:
    door = door_of(fleet)
    before = await door.estimate(MINE, to_model=NEW)
    assert (before.documents, before.there, before.chunks) == (3, 0, 3)
    assert not before.tokens_are_exact  # it takes shorter texts
    assert (await door.estimate(MINE, to_model="as_long")).tokens_are_exact
    assert before.tokens == sum([one.tokens for one in before.tenants])
    assert (before.cost, before.currency) == (before.tokens * 2.0 / 1e6, "EUR")
    assert before.vector_bytes == 3 * 128 * 4
    assert before.text_bytes > 0

    [begun] = (await door.begin(MINE, to_model=NEW)).switches
    assert (begun.from_model, begun.to_model, begun.percent) == (OLD, NEW, 0)
    await until_phase(fleet, SwitchPhase.SERVING)
    seen = await door.show(begun.switch_id)
    assert seen.progress is not None
    assert (seen.progress.documents, seen.progress.share, seen.progress.seconds_left) == (3, 1.0, 0.0)
    assert seen.coverage is not None
    assert (seen.coverage.share, seen.coverage.read) == (1.0, 3)
    assert seen.gate is not None
    assert seen.gate.passed
    assert seen.gate.measured is not None
    assert seen.switched_at is not None
    assert seen.kept_until is not None
    assert (seen.kept_until - seen.switched_at).days == 14
    assert f"`{NEW}` answers all queries" in seen.says
    assert set(seen.orders) >= {SwitchOrder.ROLLBACK, SwitchOrder.RETIRE}
    assert len(seen.worst) > 0

    after = await door.estimate(MINE, to_model=NEW)
    assert (after.there, after.tokens) == (3, 0)
    await door.retire(MINE)
    await until_phase(fleet, SwitchPhase.ENDED)
    assert await door.list_switches() == []
    [ended] = await door.list_switches(ended=True)
    assert ended.receipt is not None
    assert (ended.receipt.model, ended.receipt.vectors_left, ended.receipt.documents_left) == (OLD, 0, 0)
    assert (ended.progress, ended.orders) == (None, ())
    assert await deeds(fleet) == [("begin", "op", TENANT), ("retire", "op", TENANT)]


@on_both_databases
async def test_an_estimate_counts_as_there_what_no_switch_would_copy(fleet: Running) -> None:
    door = door_of(fleet)
    await door.begin(MINE, to_model=NEW)
    switch = await until_phase(fleet, SwitchPhase.SERVING)
    await door.pause(MINE)  # so that nothing is copied
    made = tables.generations.c
    others = made.collection_id == switch.to_collection.collection_id
    # As if newer versions of the same texts, cut otherwise, had no copy.
    cut = update(tables.generations).where(others).values(chunking="{}", number=0)
    await fleet.system.database.write(lambda conn: conn.execute(cut))
    assert (await door.estimate(MINE, to_model=NEW)).there == 0


async def test_progress_and_time_left_are_measured_from_the_jobs_of_the_switch(configure: Configure) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        for number in range(6):
            await fleet.ingest(**document(number))
        door = door_of(fleet)
        [begun] = (await door.begin(MINE, to_model=NEW, most_jobs=1)).switches
        assert begun.most_jobs == 1

        async def some_are_there() -> bool:
            progress = (await door.show(begun.switch_id)).progress
            assert progress is not None
            if progress.there >= 2:
                catalogue.goes_on.clear()
            return progress.there >= 2

        try:
            await until(some_are_there, fleet.system.database)
            paused = (await door.pause(MINE)).switches[0]
            assert paused.paused
            assert paused.progress is not None
            assert paused.progress.seconds_left is None
            assert paused.says.startswith("paused")
            resumed = (await door.resume(MINE)).switches[0]
            if resumed.phase is SwitchPhase.FILLING:
                assert resumed.progress is not None
                assert (resumed.progress.tokens_per_second or 0) > 0
        finally:
            catalogue.goes_on.set()
        await until_phase(fleet, SwitchPhase.SERVING)
        assert [name for name, *_ in await deeds(fleet)] == ["begin", "pause", "resume"]


async def test_a_refused_switch_shows_reasons_and_the_worst_and_its_force_is_logged(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    async with running(settings, catalogue=HeldCatalogue(settings.models, spoilt=0.5)) as fleet:
        places = {f"doc-{number}": f"/shelf/{number}.md" for number in range(25)}
        jobs = [
            await fleet.submit(**document(number), source=places[f"doc-{number}"]) for number in range(25)
        ]
        for job_id in jobs:
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        door = door_of(fleet)
        [begun] = (await door.begin(MINE, to_model=NEW)).switches
        await until_phase(fleet, SwitchPhase.REFUSED)
        refused = await door.show(begun.switch_id)
        assert refused.gate is not None
        assert not refused.gate.passed
        assert "max_recall_loss" in refused.gate.reasons[0]
        assert [one.new_rank for one in refused.worst[:2]] == [None, None]
        assert {one.source for one in refused.worst} == {places[one.media_id] for one in refused.worst}
        assert {one.question for one in refused.worst} <= {
            text
            for number in range(25)
            for text in (document(number)["title"], document(number)["content"].splitlines()[0][2:])
        }
        assert set(refused.orders) >= {SwitchOrder.FORCE, SwitchOrder.RECHECK, SwitchOrder.RETIRE}
        assert "has refused" in refused.says

        again = await door_of(fleet, "chief").begin(MINE, to_model=NEW, force=True)
        assert again.switches[0].forced_by == "chief"
        await until_phase(fleet, SwitchPhase.SERVING)
        assert await deeds(fleet) == [("begin", "op", TENANT), ("force", "chief", TENANT)]
        with pytest.raises(InvalidRequest, match="has passed its gate"):
            await door.force(MINE)


async def test_of_all_tenants_those_that_cannot_be_switched_are_listed(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await fleet.ingest(**document(1), user_id="one")
        await fleet.ingest(**document(1), user_id="two")
        await fleet.ingest(**document(2), user_id="two", model="minilm")
        await fleet.ingest(**document(3), user_id="three", model=NEW)
        door, everyone = door_of(fleet), Selection(all_tenants=True)
        before = await door.estimate(everyone, to_model=NEW)
        assert [one.tenant_id for one in before.tenants] == ["one"]
        assert before.model_set == ("three",)
        assert [(one.tenant_id, "several models" in one.reason) for one in before.left_out] == [("two", True)]
        begun = await door.begin(everyone, to_model=NEW, percent=0)
        assert [one.tenant_id for one in begun.switches] == ["one"]
        assert begun.switches[0].sticky_by == "tenant"
        assert begun.left_out == before.left_out
        await until_phase(fleet, SwitchPhase.SERVING, tenant="one")
        served = await door.serve(Selection(campaign=begun.switches[0].campaign), percent=100)
        assert [one.percent for one in served.switches] == [100]
        assert not served.refused
        refused = await door.recheck(everyone)
        assert [one.tenant_id for one in refused.refused] == ["one"]


async def test_orders_that_make_no_sense_are_refused_in_words(fleet: Running) -> None:
    door = door_of(fleet)
    with pytest.raises(UnknownModel, match="no model `x`"):
        await door.begin(MINE, to_model="x")
    with pytest.raises(InvalidRequest, match="percent"):
        await door.begin(MINE, to_model=NEW, percent=101)
    with pytest.raises(InvalidRequest, match="has no switch"):
        await door.pause(MINE)
    with pytest.raises(InvalidRequest, match="no switch to another model is under way"):
        await door.pause(Selection(all_tenants=True))
    with pytest.raises(UnknownSwitch, match="no switch `99`"):
        await door.show(99)
    with pytest.raises(InvalidRequest, match="say whose switches"):
        Selection()
    await door.begin(MINE, to_model=NEW, percent=50)
    await until_phase(fleet, SwitchPhase.SERVING)
    with pytest.raises(NotReady, match="both spaces answer"):
        await door.retire(MINE)
    assert (await door.estimate(MINE, to_model=NEW)).pace_source is PaceSource.MODEL
    assert [name for name, *_ in await deeds(fleet)] == ["begin"]


async def test_a_paused_switch_that_is_given_up_comes_to_its_end(fleet: Running) -> None:
    door = door_of(fleet)
    await door.begin(MINE, to_model=NEW)
    await door.pause(MINE)
    [retired] = (await door.retire(MINE)).switches
    assert not retired.paused
    await until_phase(fleet, SwitchPhase.ENDED)
    # A pause after the gate holds up no emptying either.
    await door.begin(MINE, to_model=NEW)
    await until_phase(fleet, SwitchPhase.SERVING)
    await door.pause(MINE)
    await door.retire(MINE)
    await until_phase(fleet, SwitchPhase.ENDED)


@on_both_databases
async def test_while_a_space_is_emptied_no_order_but_to_empty_it_is_taken(fleet: Running) -> None:
    info = fleet.system.catalogue.info(NEW)

    def of_the_given_up(conn: Connection) -> None:
        """In one unit, so that the leader does not empty the space in between."""
        now = time()
        wanted = orders.Wanted(info)
        orders.begin(conn, [TENANT], wanted, now)
        orders.retire(conn, TENANT, now)
        for order in (
            partial(orders.pause, conn, TENANT),
            partial(orders.resume, conn, TENANT),
            partial(orders.throttle, conn, TENANT, 3),
            partial(orders.serve, conn, TENANT, 100.0, now),
            partial(orders.rollback, conn, TENANT, now),
            partial(orders.recheck, conn, TENANT, now),
            partial(orders.force, conn, TENANT, now, actor="op"),
            partial(orders.promote, conn, TENANT),
        ):
            with pytest.raises(NotReady, match=f"the space of `{NEW}` is being emptied"):
                order()
        # The same switch again would not be it: its space goes.
        with pytest.raises(InvalidRequest, match=f"the space of `{NEW}` is being emptied"):
            orders.begin(conn, [TENANT], wanted, now)
        assert orders.retire(conn, TENANT, now).phase is SwitchPhase.RETIRING

    await fleet.system.database.write(of_the_given_up)
    await until_phase(fleet, SwitchPhase.ENDED)

    door = door_of(fleet)
    await door.begin(MINE, to_model=NEW)
    await until_phase(fleet, SwitchPhase.SERVING)

    def of_the_old_space(conn: Connection) -> None:
        orders.retire(conn, TENANT, time())
        # The tenant has the model already, so the order is obeyed.
        begun = orders.begin(conn, [TENANT], orders.Wanted(info), time())
        assert [one.phase for one in begun.again] == [SwitchPhase.RETIRING]

    await fleet.system.database.write(of_the_old_space)
    await until_phase(fleet, SwitchPhase.ENDED)
