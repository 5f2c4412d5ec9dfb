"""A model of a switch cannot be loaded, or its server is away: searches and submissions do not suffer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from time import time
from typing import Any

import pytest
from sqlalchemy import select

from embedfleet.cli.doctor_checks import _switches
from embedfleet.cli.examination import Doubt
from embedfleet.clock import SystemClock
from embedfleet.errors import EmbedfleetError, ModelError, ModelUnavailable, Remedy, UnknownModel
from embedfleet.inference.backend import EmbeddingBackend
from embedfleet.model_switching import orders
from embedfleet.model_switching.administration import SwitchAdministration
from embedfleet.model_switching.asking import TenantQuestions
from embedfleet.model_switching.gate import Answers
from embedfleet.model_switching.schemas import SwitchInfo, SwitchProgress
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import model_switches
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.settings import ModelsSettings, Settings
from embedfleet.sql import tables
from embedfleet.sql.states import SwitchPhase
from support.databases import on_both_databases
from support.embedding_server import EmbeddingServer, says, serves
from support.hangs import HANG_SECONDS
from support.model_switches import (
    NEW,
    HeldCatalogue,
    begin,
    document,
    found_media,
    order,
    search,
    switch_of,
    until_phase,
)
from support.system import TENANT, Configure, Running, running, take_ledger, until

LEFT = "left"
MODELS: dict[str, Any] = {
    "default": LEFT,
    "catalogue": {
        LEFT: {"backend": "static", "dimensions": 200},
        NEW: {"backend": "static", "dimensions": 128},
    },
}
WITHOUT_LEFT: dict[str, Any] = {"default": NEW, "catalogue": {NEW: MODELS["catalogue"][NEW]}}
WAIT = {"on_load_failure": "wait"}
SOME = 6
NOT_LOADED = "its weights cannot be read: put them back"


class BreakingCatalogue(HeldCatalogue):
    """Models whose names are in `broken` cannot be loaded, as if a file of theirs were cut off."""

    def __init__(self, settings: ModelsSettings, *broken: str) -> None:
        super().__init__(settings)
        self.broken = set(broken)

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        if name in self.broken:
            raise ModelError(f"model `{name}`: {NOT_LOADED}", remedy=Remedy.DOWNLOAD_MODEL)
        return super().open(name, device)


async def submit_some(fleet: Running) -> None:
    for job_id in [await fleet.submit(**document(number)) for number in range(SOME)]:
        await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


async def shown(fleet: Running) -> SwitchInfo:
    system = fleet.system
    door = SwitchAdministration(system.database, SystemClock(), system.settings, system.catalogue, actor="op")
    return await door.show((await switch_of(system.database)).switch_id)


async def until_it_waits(fleet: Running, why: str) -> SwitchInfo:
    """Return the switch when it says why it does not go on."""

    async def says_so() -> bool:
        return why in ((await switch_of(fleet.system.database)).findings.get("waits_for") or "")

    await until(says_so, fleet.system.database)
    return await shown(fleet)


async def until_it_waits_no_more(fleet: Running) -> None:
    async def is_over() -> bool:
        return (await switch_of(fleet.system.database)).findings.get("waits_for") is None

    await until(is_over, fleet.system.database)


async def doubts(settings: Settings) -> str:
    """What the doctor doubts about the switches."""
    found = await asyncio.to_thread(_switches, settings)
    assert isinstance(found, Doubt), found
    return found.detail


async def answers_all(fleet: Running, model: str, count: int) -> None:
    hits = await search(fleet, "old in winter", limit=99)
    assert (hits.models, len({hit.media_id for hit in hits}), hits.notice) == ((model,), count, None)


async def no_job_runs(fleet: Running) -> None:
    query = select(tables.jobs.c.job_id).where(tables.jobs.c.finished_at.is_(None)).limit(1)

    async def none_runs() -> bool:
        return await fleet.system.database.read(lambda conn: conn.execute(query).first()) is None

    await until(none_runs, fleet.system.database)


async def fill(settings: Settings) -> None:
    """A system that ends when all documents are in both spaces. Its switch is paused before the gate."""
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet)
        catalogue.goes_on.clear()
        try:
            await begin(fleet)

            async def are_begun() -> bool:
                return (await progress(fleet)).under_way == SOME

            await until(are_begun, fleet.system.database)
            await order(fleet, orders.pause)
        finally:
            catalogue.goes_on.set()

        async def is_filled() -> bool:
            return (await progress(fleet)).there == SOME

        await until(is_filled, fleet.system.database)


async def progress(fleet: Running) -> SwitchProgress:
    found = (await shown(fleet)).progress
    assert found is not None
    return found


async def try_dead_letters_again(fleet: Running) -> None:
    mine = fleet.jobs.of(TENANT)
    letters = await mine.list_dead_letters(limit=100)
    assert (await mine.requeue_dead_letters([one.dead_letter_id for one in letters])).refused == ()


async def test_a_model_that_workers_cannot_load_is_told_and_harms_no_submission(configure: Configure) -> None:
    settings = configure(models=MODELS)
    catalogue = BreakingCatalogue(settings.models, NEW)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet)
        await begin(fleet)
        job_id = await fleet.submit(**document(7))
        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        assert (info.status, info.model, info.reason) == (JobStatus.COMPLETED, LEFT, None)
        assert "doc-7" in await found_media(fleet, document(7)["title"])

        refused = await until_phase(fleet, SwitchPhase.REFUSED)
        await no_job_runs(fleet)
        of_copies, of_gate = refused.findings["gate"]["reasons"]
        assert "could not be embedded with the new model (most of them: model `shorter`" in of_copies
        assert NOT_LOADED in of_copies
        assert NOT_LOADED in of_gate
        told = await shown(fleet)
        assert told.progress is not None
        assert told.progress.failed == SOME + 1
        assert NOT_LOADED in (told.progress.failed_because or "")
        assert "says why the gate refuses 1 of them" in await doubts(settings)
        # From its refusal on, too.
        assert (await fleet.ingest(**document(8))).status is JobStatus.COMPLETED
        await answers_all(fleet, LEFT, SOME + 2)

        catalogue.broken.clear()
        await try_dead_letters_again(fleet)
        await order(fleet, orders.recheck, now=time())
        served = await until_phase(fleet, SwitchPhase.SERVING)
        assert (served.findings["gate"]["reasons"], served.forced) == ([], False)
        assert served.findings["coverage"]["share"] == 1.0
        await until_it_waits_no_more(fleet)
        await answers_all(fleet, NEW, SOME + 2)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


@pytest.mark.slow
async def test_where_a_model_is_waited_for_the_switch_says_so_and_goes_on_by_itself(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS | WAIT)
    catalogue = BreakingCatalogue(settings.models, NEW)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet)
        await begin(fleet)
        told = await until_it_waits(fleet, NOT_LOADED)
        assert (told.phase, told.progress and told.progress.failed) == (SwitchPhase.FILLING, 0)
        assert NOT_LOADED in await doubts(settings)
        assert (await fleet.ingest(**document(7))).status is JobStatus.COMPLETED
        assert "doc-7" in await found_media(fleet, document(7)["title"])
        catalogue.broken.clear()
        await until_phase(fleet, SwitchPhase.SERVING)
        await until_it_waits_no_more(fleet)
        await answers_all(fleet, NEW, SOME + 1)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_gate_that_cannot_load_the_model_refuses_and_checks_again_when_it_is_mended(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    await fill(settings)
    catalogue = BreakingCatalogue(settings.models, NEW)
    async with running(settings, catalogue=catalogue) as fleet:
        await order(fleet, orders.resume)
        refused = await until_phase(fleet, SwitchPhase.REFUSED)
        [reason] = refused.findings["gate"]["reasons"]
        assert NOT_LOADED in reason
        assert refused.findings["coverage"]["share"] == 1.0
        await answers_all(fleet, LEFT, SOME)
        await order(fleet, orders.recheck, now=time())
        again = await until_checked_again(fleet, refused)
        assert again.findings["gate"]["reasons"] == [reason]
        catalogue.broken.clear()
        await order(fleet, orders.recheck, now=time())
        await until_phase(fleet, SwitchPhase.SERVING)
        await answers_all(fleet, NEW, SOME)


async def until_checked_again(fleet: Running, before: ModelSwitch) -> ModelSwitch:
    async def is_checked() -> bool:
        now = await switch_of(fleet.system.database)
        is_later = now.findings["gate"]["at"] > before.findings["gate"]["at"]
        return now.phase is SwitchPhase.REFUSED and is_later

    await until(is_checked, fleet.system.database)
    return await switch_of(fleet.system.database)


@pytest.mark.slow
async def test_a_gate_that_waits_for_the_model_says_so_and_goes_on_by_itself(configure: Configure) -> None:
    settings = configure(models=MODELS | WAIT)
    await fill(settings)
    catalogue = BreakingCatalogue(settings.models, NEW)
    async with running(settings, catalogue=catalogue) as fleet:
        await order(fleet, orders.resume)
        # Though it is forced: the model that is to answer is waited for.
        await order(fleet, orders.force, now=time(), actor="op")
        told = await until_it_waits(fleet, NOT_LOADED)
        assert (told.phase, told.forced_by) == (SwitchPhase.CHECKING, "op")
        assert NOT_LOADED in await doubts(settings)
        await answers_all(fleet, LEFT, SOME)
        catalogue.broken.clear()
        served = await until_phase(fleet, SwitchPhase.SERVING)
        assert (served.findings["gate"]["reasons"], served.findings["forced_by"]) == ([], "op")
        await answers_all(fleet, NEW, SOME)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        yield server


@pytest.mark.slow
async def test_a_model_whose_server_is_away_is_waited_for_and_rolled_back_from(
    configure: Configure, server: EmbeddingServer
) -> None:
    models = MODELS | {"catalogue": MODELS["catalogue"] | {NEW: server.entry()}}
    settings = configure(models=models)
    async with running(settings) as fleet:
        await submit_some(fleet)
        server.usual = says(503)
        await begin(fleet)
        # Its vectors mean nothing, so that the gate would refuse it.
        await order(fleet, orders.force, now=time(), actor="op")
        told = await until_it_waits(fleet, "503")
        assert told.phase is SwitchPhase.FILLING
        assert (await fleet.ingest(**document(7))).status is JobStatus.COMPLETED
        await answers_all(fleet, LEFT, SOME + 1)
        server.usual = serves
        served = await until_phase(fleet, SwitchPhase.SERVING)
        assert served.findings["coverage"]["share"] == 1.0
        await answers_all(fleet, NEW, SOME + 1)

        server.usual = says(503)
        with pytest.raises(
            ModelUnavailable, match=r"503.*an operator can have the other one answer"
        ) as failed:
            await search(fleet, "who is old in winter")
        assert failed.value.remedy is Remedy.LIST_SWITCHES
        await order(fleet, orders.rollback, now=time())
        await answers_all(fleet, LEFT, SOME + 1)
        job_id = await fleet.submit(**document(8))
        await until_it_waits(fleet, "503")
        server.usual = serves
        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        assert info.status is JobStatus.COMPLETED
        await order(fleet, orders.serve, percent=100.0, now=time())
        await answers_all(fleet, NEW, SOME + 2)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("it is gone from the settings", marks=pytest.mark.slow),
        "it cannot be loaded",
        pytest.param("it is waited for", marks=pytest.mark.slow),
    ],
)
async def test_a_model_that_was_withdrawn_can_be_left_by_force(configure: Configure, how: str) -> None:
    """No model of before is needed for the way out: the texts are in SQL."""
    before = configure(models=MODELS)
    async with running(before) as fleet:
        await submit_some(fleet)
        await begin(fleet)
        await order(fleet, orders.pause)
    is_gone = how == "it is gone from the settings"
    models = WITHOUT_LEFT if is_gone else MODELS | (WAIT if how == "it is waited for" else {})
    settings = configure(models=models)
    kind: type[EmbedfleetError] = UnknownModel if is_gone else ModelError
    if how == "it is waited for":
        kind = ModelUnavailable
    why = "no model `left`" if is_gone else NOT_LOADED
    catalogue = BreakingCatalogue(settings.models, *([] if is_gone else [LEFT]))
    async with running(settings, catalogue=catalogue) as fleet:
        with pytest.raises(kind, match="is being switched from `left` to `shorter`") as failed:
            await search(fleet, "old in winter")
        assert why in str(failed.value)
        await order(fleet, orders.resume)
        if how == "it is waited for":
            assert (await until_it_waits(fleet, why)).phase is SwitchPhase.CHECKING
        else:
            refused = await until_phase(fleet, SwitchPhase.REFUSED)
            assert why in refused.findings["gate"]["reasons"][0]
        await order(fleet, orders.force, now=time(), actor="op")
        served = await until_phase(fleet, SwitchPhase.SERVING)
        assert why in served.findings["gate"]["reasons"][0]
        await answers_all(fleet, NEW, SOME)
        # What is submitted is in the new space, and waits for the other one no longer than it must.
        if how != "it is waited for":
            assert (await fleet.ingest(**document(7))).status is JobStatus.COMPLETED
            await answers_all(fleet, NEW, SOME + 1)
        await order(fleet, orders.retire, now=time())
        ended = await until_phase(fleet, SwitchPhase.ENDED)
        assert ended.findings["receipt"]["vectors_left"] == 0
        assert (await fleet.ingest(**document(8))).model == NEW
        assert "doc-8" in await found_media(fleet, document(8)["title"])
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_space_that_gets_no_copies_any_more_is_retired_in_time_all_the_same(
    configure: Configure,
) -> None:
    """The old model is withdrawn while the new one answers: what came in since is in the new space alone."""
    await fill(configure(models=MODELS))
    async with running(configure(models=MODELS)) as fleet:
        await order(fleet, orders.resume)
        await until_phase(fleet, SwitchPhase.SERVING)
    settings = configure(models=MODELS, model_switching={"keep_days": 1e-9})
    async with running(configure(models=MODELS), catalogue=BreakingCatalogue(settings.models, LEFT)) as fleet:
        assert (await fleet.ingest(**document(7))).model == NEW
        switch = await switch_of(fleet.system.database)
        assert await fleet.system.database.read(partial(model_switches.count_lacking, switch=switch)) == 1
    async with running(settings, catalogue=BreakingCatalogue(settings.models, LEFT)) as fleet:
        await until_phase(fleet, SwitchPhase.ENDED)
        await answers_all(fleet, NEW, SOME + 1)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


@on_both_databases
async def test_an_order_that_comes_while_the_gate_asks_holds(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configure(models=MODELS, model_switching={"gate": {"max_bytes_ratio": 0.1}})
    really_ask = TenantQuestions.ask
    async with running(settings) as fleet:

        async def ask(self: TenantQuestions, switch: ModelSwitch) -> Answers | None:
            found = await really_ask(self, switch)
            await order(fleet, orders.force, now=time(), actor="op")
            return found

        monkeypatch.setattr(TenantQuestions, "ask", ask)
        await submit_some(fleet)
        await begin(fleet)
        served = await until_phase(fleet, SwitchPhase.SERVING, SwitchPhase.REFUSED)
        assert (served.phase, served.forced) == (SwitchPhase.SERVING, True)
        assert served.findings["forced_by"] == "op"
        assert "max_bytes_ratio" in served.findings["gate"]["reasons"][0]


@on_both_databases
async def test_what_an_order_has_noted_stays_when_the_leader_enters_another_phase(
    configure: Configure,
) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet)
        await begin(fleet)
        await order(fleet, orders.pause)
        read_before = await switch_of(fleet.system.database)
        await order(fleet, orders.force, now=time(), actor="op")
        enter = partial(model_switches.enter, switch=read_before, phase=SwitchPhase.CHECKING, now=time())
        assert await fleet.system.database.write(enter)
        assert (await switch_of(fleet.system.database)).findings["forced_by"] == "op"
        assert not await fleet.system.database.write(enter), "it is in another phase by now"
