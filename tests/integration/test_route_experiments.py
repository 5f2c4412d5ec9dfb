"""A tenant whose documents are of three models asks whether one model for everything would be better."""

from __future__ import annotations

from functools import partial
from time import time
from typing import Any

import pytest

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.tenant_administration import TenantAdministration
from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, NotReady
from embedfleet.evaluation.verdicts import Finding
from embedfleet.model_switching import orders
from embedfleet.queue_schemas import SearchHits
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.settings import RoutingRule
from embedfleet.sql.states import ExperimentPhase, QuestionSource, SwitchPhase
from support.databases import on_both_databases
from support.experiments import administration, begin, ended, questions, row, wanted
from support.hangs import HANG_SECONDS
from support.model_switches import (
    MODEL_OF,
    NEW,
    OLD,
    THIRD,
    THREE,
    HeldCatalogue,
    document,
    found_media,
    order,
    search,
    switch_of,
    until_phase,
)
from support.system import TENANT, Configure, Running, running, take_ledger, until

QUICK: dict[str, Any] = {"models": THREE, "experiments": {"pilot_questions": 10, "questions_per_step": 60}}
SOME = 26
LABELLED: dict[str, Any] = {
    "model_a": "route",
    "source": QuestionSource.LABELLED,
    "questions": questions(SOME),
    "smallest_difference": 0.1,
    "metric": "recall@3",
}
ASKED = [document(number)["title"] for number in range(6)] + ["old harbours", "in winter"]


async def submit_some(fleet: Running, count: int = SOME) -> None:
    job_ids = [await fleet.submit(**document(one), model=MODEL_OF[one % 3]) for one in range(count)]
    for job_id in job_ids:
        await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


def tenant(fleet: Running) -> TenantAdministration:
    system = fleet.system
    return OperatorAdministration(system.database, SystemClock(), system.settings, actor="op").of(TENANT)


async def answers(fleet: Running) -> list[list[tuple[str, str | None, float | None]]]:
    """What searches of the tenant see: documents, their models, and how rare their scores are."""
    found = [await search(fleet, query, limit=8) for query in ASKED]
    return [[(hit.media_id, hit.model, hit.calibrated) for hit in hits] for hits in found]


async def is_filled(fleet: Running, experiment_id: str) -> None:
    """Wait until the space of the model has all documents."""

    async def is_past() -> bool:
        return (await row(fleet, experiment_id)).phase is not ExperimentPhase.PREPARING

    await until(is_past, fleet.system.database)


@on_both_databases
async def test_no_search_sees_the_copies_and_the_better_route_is_found(configure: Configure) -> None:
    settings = configure(**QUICK)
    async with running(settings, catalogue=HeldCatalogue(settings.models, spoilt=0.6)) as fleet:
        await submit_some(fleet)
        before = await answers(fleet)
        planned = await administration(fleet).plan(wanted(**LABELLED))
        lacking = sum(MODEL_OF[one % 3] != NEW for one in range(SOME))
        assert (planned.to_embed.documents, planned.to_embed.there) == (lacking, 0)
        assert planned.to_embed.chunks > 0

        begun = await begin(fleet, **LABELLED, keep=True)
        one = await ended(fleet, begun.experiment_id)
        verdict = one.findings["verdict"]
        assert (one.findings["reason"], verdict["finding"]) == ("it is decided", Finding.A_BETTER)
        assert verdict["sentence"].startswith("route better by ")
        assert one.findings["checks"]["passed"]
        # All copies are there now, and the route answers as it did.
        assert await answers(fleet) == before
        assert set(await found_media(fleet, "winter", model=NEW, limit=99)) == {
            f"doc-{one}" for one in range(SOME) if MODEL_OF[one % 3] == NEW
        }
        route, model = (await administration(fleet).show(begun.experiment_id)).spaces
        assert (route.model, set(route.models), route.documents) == ("route", set(MODEL_OF), SOME)
        assert (model.model, model.models, model.documents) == (NEW, (NEW,), SOME)
        assert model.bytes_per_vector == 4 * 128
        assert 4 * 64 < route.bytes_per_vector < 4 * 256
        assert None not in (route.p95_seconds, model.p95_seconds)

        with pytest.raises(NotReady, match="order the switch itself if you want it all the same"):
            await administration(fleet).promote(begun.experiment_id)
        await administration(fleet).end(begun.experiment_id)
        await until_phase(fleet, SwitchPhase.ENDED)
        await fleet.settled()
        assert await answers(fleet) == before
        (await take_ledger(fleet.system)).assert_exact()


async def test_what_comes_in_while_it_is_compared_is_where_the_route_has_it(configure: Configure) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 6)
        begun = await begin(fleet, model_a="route")
        await is_filled(fleet, begun.experiment_id)
        # New ones: of the route's other models, and of the model that is compared with it.
        assert (await fleet.ingest(**document(30), model=OLD)).model == OLD
        assert (await fleet.ingest(**document(31), model=NEW)).model == NEW
        # One that is there stays in its space, though the compared model is chosen for its new version.
        assert (await fleet.ingest(**document(0, more="Changed. "), model=NEW)).model == OLD
        # One moves between two spaces of the route, and one out of the space that is filled.
        assert (await fleet.ingest(**document(1, more="Changed. "), model=OLD)).model == OLD
        assert (await fleet.ingest(**document(2, more="Changed. "), model=THIRD)).model == THIRD
        hits = await search(fleet, "old in winter", limit=99)
        where = {hit.media_id: hit.model for hit in hits}
        places = {"doc-0": OLD, "doc-1": OLD, "doc-2": THIRD, "doc-30": OLD, "doc-31": NEW}
        assert {name: where[name] for name in places} == places
        of_document = [hit.media_id for hit in hits]
        assert len(of_document) == len(set(of_document)) == 8, "no document is found twice"
        await administration(fleet).end(begun.experiment_id)
        await until_phase(fleet, SwitchPhase.ENDED)
        await fleet.settled()
        again = await search(fleet, "old in winter", limit=99)
        assert {hit.media_id: hit.model for hit in again} == where
        (await take_ledger(fleet.system)).assert_exact()


async def test_copies_are_counted_nowhere_and_do_not_say_where_a_document_is(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 8)
        begun = await begin(fleet, model_a="route", keep=True)
        await is_filled(fleet, begun.experiment_id)
        counted = {one.model: one.documents for one in await fleet.jobs.of(TENANT).list_collections()}
        assert counted == {OLD: 3, THIRD: 3, NEW: 2}
        plan = await tenant(fleet).plan_routing([RoutingRule(model=THIRD)])
        assert ({one.from_model: one.documents for one in plan.lines}, plan.staying) == ({OLD: 3, NEW: 2}, 3)


@on_both_databases
async def test_the_promoted_model_gets_all_documents_and_the_rules_end(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await tenant(fleet).set_rules([RoutingRule(model=THIRD, content_types=("code",))])
        await submit_some(fleet, 9)
        before = await answers(fleet)
        begun = await begin(fleet, model_a="route")
        await ended(fleet, begun.experiment_id)
        embedded = fleet.embedded()
        assert (await administration(fleet).promote(begun.experiment_id)).reason is not None
        switch = await until_phase(fleet, SwitchPhase.SERVING)
        assert switch.findings["gate"]["passed"]
        assert switch.findings["coverage"]["documents"] == 6
        assert fleet.embedded() == embedded, "nothing is embedded again"
        hits = await search(fleet, "old in winter", limit=99)
        assert (hits.models, len({hit.media_id for hit in hits})) == ((NEW,), 9)
        await order(fleet, orders.rollback, now=time())
        assert await answers(fleet) == before
        await order(fleet, orders.serve, percent=100.0, now=time())
        # What is submitted is on both sides, so the way back is instant.
        assert (await fleet.ingest(**document(40))).model == NEW
        await order(fleet, orders.rollback, now=time())
        assert "doc-40" in await found_media(fleet, document(40)["title"])
        await order(fleet, orders.serve, percent=100.0, now=time())
        assert (await tenant(fleet).routing()).rules != ()
        await order(fleet, orders.retire, now=time())
        switch = await until_phase(fleet, SwitchPhase.ENDED)
        assert switch.findings["receipt"]["vectors_left"] == 0
        await fleet.settled()
        routing = await tenant(fleet).routing()
        assert (routing.rules, routing.model) == ((), NEW)
        hits = await search(fleet, "old in winter", limit=99)
        assert (hits.models, len({hit.media_id for hit in hits})) == ((NEW,), 10)
        (await take_ledger(fleet.system)).assert_exact()


async def test_rules_of_the_settings_do_not_take_a_promoted_model_away(configure: Configure) -> None:
    rules = {"routing": {"rules": [{"model": THIRD, "content_types": ["code"]}]}}
    async with running(configure(**(QUICK | {"models": THREE | rules}))) as fleet:
        await submit_some(fleet, 6)
        begun = await begin(fleet, model_a="route")
        await ended(fleet, begun.experiment_id)
        await administration(fleet).promote(begun.experiment_id, NEW)
        await until_phase(fleet, SwitchPhase.SERVING)
        await order(fleet, orders.retire, now=time())
        await until_phase(fleet, SwitchPhase.ENDED)
        assert (await tenant(fleet).routing()).rules == (RoutingRule(model=NEW),)
        code = await fleet.ingest("code", "def add(a, b): return a + b", content_type="code")
        assert code.model == NEW


@pytest.mark.slow
async def test_either_side_may_be_the_route_and_is_promoted_by_its_name(configure: Configure) -> None:
    settings = configure(**QUICK)
    async with running(settings, catalogue=HeldCatalogue(settings.models, spoilt=0.6)) as fleet:
        await submit_some(fleet)
        before = await answers(fleet)
        begun = await begin(fleet, **(LABELLED | {"model_a": NEW, "model_b": "route"}))
        assert (begun.model_a, begun.model_b) == (NEW, "route")
        one = await ended(fleet, begun.experiment_id)
        assert one.findings["verdict"]["finding"] == Finding.B_BETTER
        # The tenant has what is better, so the space of the model is freed at once.
        await until_phase(fleet, SwitchPhase.ENDED)
        door = administration(fleet)
        with pytest.raises(InvalidRequest, match="has no arm `static`: name `shorter` or `route`"):
            await door.promote(begun.experiment_id, OLD)
        with pytest.raises(NotReady, match="route better by"):
            await door.promote(begun.experiment_id, NEW)
        promoted = await door.promote(begun.experiment_id)
        assert promoted.reason == "it is decided"
        await fleet.settled()
        assert await answers(fleet) == before
        (await take_ledger(fleet.system)).assert_exact()


async def test_promoting_the_route_frees_the_other_space_of_a_running_comparison(
    configure: Configure,
) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 4)
        begun = await begin(fleet, model_a="route", source=QuestionSource.CLICKS, keep=True)
        told = await administration(fleet).promote(begun.experiment_id, "route")
        assert (told.reason, told.keep) == ("its route was promoted", False)
        await until_phase(fleet, SwitchPhase.ENDED)


@on_both_databases
async def test_online_people_see_hits_of_the_route_and_of_the_model_in_turn(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 9)
        begun = await begin(fleet, model_a="route", source=QuestionSource.CLICKS)
        await is_filled(fleet, begun.experiment_id)
        hits: SearchHits = await search(fleet, "copper gardens in winter")
        assert hits.impression_id is not None
        assert set(hits.models) == set(MODEL_OF)
        assert hits.notice == (
            "the hits are of the route and of a model that is compared with it, in turn: their scores do not "
            "compare"
        )
        assert {hit.model for hit in hits} == {None}
        assert len({hit.media_id for hit in hits}) == len(hits) == 5, "what both found is shown once"
        assert (await fleet.jobs.of(TENANT).feedback(hits.impression_id, [0])).clicked == (0,)
        named = await search(fleet, "copper gardens", model=OLD)
        assert (named.impression_id, named.models) == (None, (OLD,))


async def test_all_documents_are_switched_from_the_route_without_a_comparison(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 6)
        info = fleet.system.catalogue.info(NEW)
        with pytest.raises(InvalidRequest, match="say which one to leave, or `route` for all of them"):
            await fleet.system.database.write(
                lambda conn: orders.begin(conn, [TENANT], orders.Wanted(info), time())
            )
        await fleet.system.database.write(
            partial(orders.begin, names=[TENANT], wanted=orders.Wanted(info, "route"), now=time())
        )
        await until_phase(fleet, SwitchPhase.SERVING)
        with pytest.raises(InvalidRequest, match="is switched to `shorter` already"):
            await begin(fleet, model_a=OLD, model_b=THIRD)
        # Both sides are there already, so the switch is used, and not touched.
        begun = await begin(fleet, model_a="route", source=QuestionSource.CLICKS)
        switch: ModelSwitch = await switch_of(fleet.system.database)
        assert not switch.is_trial
        await administration(fleet).promote(begun.experiment_id, "route")
        assert (await switch_of(fleet.system.database)).percent == 0.0


async def test_what_cannot_be_compared_with_the_route_is_said(configure: Configure) -> None:
    models = THREE | {"catalogue": THREE["catalogue"] | {"route": {"backend": "static", "dimensions": 32}}}
    async with running(configure(**QUICK)) as fleet:
        with pytest.raises(InvalidRequest, match="has documents of none only"):
            await begin(fleet, model_a="route")
        await fleet.ingest(**document(1), model=NEW)
        with pytest.raises(InvalidRequest, match="of `shorter` only, so its route and model `shorter`"):
            await begin(fleet, model_a="route")
        with pytest.raises(InvalidRequest, match="have one space"):
            await begin(fleet, model_a="route", model_b="route")
        await fleet.ingest(**document(2), model=OLD)
        with pytest.raises(InvalidRequest, match="Compare `route`, which is all that the tenant has"):
            await begin(fleet)
    async with running(configure(**(QUICK | {"models": models}))) as fleet:
        with pytest.raises(InvalidRequest, match="give the model another name in the settings"):
            await begin(fleet, model_a="route")
