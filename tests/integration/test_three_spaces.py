"""A tenant routes to three models: a search looks into all of their spaces, other rules move documents."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.tenant_administration import TenantAdministration
from embedfleet.clock import SystemClock
from embedfleet.queue_schemas import SearchHits
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import RoutingRule, Settings
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import TENANT, Configure, Running, running, take_ledger

PROSE = {
    "bridge": "The council decided that the new bridge over the river will be built next year.",
    "bread": "Knead the dough, let it rise for an hour, then bake the bread in a hot oven.",
    "whale": "Whales are mammals that breathe air and feed their young with milk.",
}
CODE = {
    "add": "def add(left, right):\n    total = left + right\n    return total\n",
    "read": "def read_lines(path):\n    with open(path) as file:\n        return file.readlines()\n",
}
NOTES = {
    "train": "The train from the airport to the city leaves every ten minutes from platform two.",
    "tomato": "Tomatoes are planted in the garden in May, when the nights are warm enough.",
}
ALL = sorted([*PROSE, *CODE, *NOTES])
RULES = (
    RoutingRule(model="static", content_types=("code",)),
    RoutingRule(model="shorter", where={"kind": "note"}),
)


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure(
        models={"default": "minilm", "catalogue": {"shorter": {"backend": "static", "dimensions": 128}}}
    )


def of_tenant(fleet: Running) -> TenantAdministration:
    system = fleet.system
    return OperatorAdministration(system.database, SystemClock(), system.settings, actor="op").of(TENANT)


async def fill(fleet: Running) -> dict[str, tuple[str, str | None]]:
    """Submit all documents. Return the model of each, and why it has it."""
    jobs = [await fleet.ingest(name, text) for name, text in PROSE.items()]
    jobs += [await fleet.ingest(name, text, content_type="code") for name, text in CODE.items()]
    jobs += [await fleet.ingest(name, text, metadata={"kind": "note"}) for name, text in NOTES.items()]
    return {job.media_id: (job.model, job.route) for job in jobs}


async def asked(fleet: Running, query: str, model: str | None = None, *, limit: int = 20) -> SearchHits:
    return await fleet.system.search.search(TENANT, SearchRequest(query=query, model=model, limit=limit))


def models_of(hits: SearchHits) -> dict[str, str | None]:
    names = [hit.media_id for hit in hits]
    assert len(names) == len(set(names)), "a document is found twice"
    return {hit.media_id: hit.model for hit in hits}


@on_both_databases
async def test_rules_of_three_models_and_one_list_of_all_their_hits(settings: Settings) -> None:
    async with running(settings) as fleet:
        await of_tenant(fleet).set_rules(RULES)
        routed = await fill(fleet)
        assert {routed[name] for name in CODE} == {("static", "rule 1 of the tenant: content type is code")}
        assert {routed[name] for name in NOTES} == {("shorter", "rule 2 of the tenant: metadata is as asked")}
        assert {routed[name] for name in PROSE} == {("minilm", "no rule matched: default model")}
        for query, first in (
            ("how do I make a loaf of bread", "bread"),
            ("function that reads the lines of a file", "read"),
            ("train from the airport to the city", "train"),
        ):
            hits = await asked(fleet, query)
            assert set(hits.models) == {"minilm", "static", "shorter"}
            assert models_of(hits) == {name: model for name, (model, _) in routed.items()}
            assert (hits.not_searched, hits.notice) == ((), None)
            assert hits[0].media_id == first
            rare = [hit.calibrated or 0.0 for hit in hits]
            assert rare == sorted(rare, reverse=True)
            few = await asked(fleet, query, limit=2)
            assert [hit.media_id for hit in few] == [hit.media_id for hit in hits[:2]]
            named = await asked(fleet, query, "shorter")
            assert (named.models, set(models_of(named))) == (("shorter",), set(NOTES))
        kept = select(tables.score_backgrounds.c.documents)
        counts = await fleet.system.database.read(lambda conn: conn.execute(kept).scalars().all())
        assert sorted(counts) == [2, 2, 3]
        (await take_ledger(fleet.system)).assert_exact()


async def test_one_of_three_models_that_is_gone_is_named(settings: Settings, configure: Configure) -> None:
    async with running(settings) as fleet:
        await of_tenant(fleet).set_rules(RULES)
        await fill(fleet)
    async with running(configure(models={"default": "minilm"})) as fleet:
        hits = await asked(fleet, "read a file")
        assert (set(hits.models), set(models_of(hits))) == ({"minilm", "static"}, {*PROSE, *CODE})
        [left_out] = hits.not_searched
        assert (left_out.model, left_out.documents) == ("shorter", 2)


@on_both_databases
async def test_other_rules_move_documents_between_three_spaces(settings: Settings) -> None:
    """Each rule takes another model than before, so every document moves, in a circle."""
    circle = (
        RoutingRule(model="shorter", content_types=("code",)),
        RoutingRule(model="minilm", where={"kind": "note"}),
        RoutingRule(model="static"),
    )
    async with running(settings) as fleet:
        door = of_tenant(fleet)
        await door.set_rules(RULES)
        await fill(fleet)
        before = models_of(await asked(fleet, "bread"))
        planned = await door.plan_routing(circle)
        assert {(one.from_model, one.to_model, one.documents) for one in planned.lines} == {
            ("static", "shorter", len(CODE)),
            ("shorter", "minilm", len(NOTES)),
            ("minilm", "static", len(PROSE)),
        }
        assert (planned.documents, planned.staying) == (len(ALL), 0)
        assert models_of(await asked(fleet, "bread")) == before, "a plan changes nothing"

        await door.set_rules(circle)
        step = await door.move_routed()
        assert (step.looked_at, len(step.begun), step.left_out) == (len(ALL), len(ALL), 0)
        for job_id in step.begun:
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await fleet.settled()
        after = models_of(await asked(fleet, "bread"))
        expected = (
            dict.fromkeys(CODE, "shorter") | dict.fromkeys(NOTES, "minilm") | dict.fromkeys(PROSE, "static")
        )
        assert after == expected
        assert (await asked(fleet, "how do I make a loaf of bread"))[0].media_id == "bread"
        again = await door.move_routed()
        assert (again.looked_at, again.begun) == (len(ALL), ())
        (await take_ledger(fleet.system)).assert_exact()


async def test_all_go_to_one_of_the_three_and_two_spaces_are_left_empty(settings: Settings) -> None:
    async with running(settings) as fleet:
        door = of_tenant(fleet)
        await door.set_rules(RULES)
        await fill(fleet)
        await door.set_rules([RoutingRule(model="static")])
        step = await door.move_routed()
        assert (len(step.begun), step.left_out) == (len(PROSE) + len(NOTES), 0)
        for job_id in step.begun:
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await fleet.settled()
        hits = await asked(fleet, "bread")
        assert (hits.models, sorted(models_of(hits))) == (("static",), ALL)
        assert {hit.calibrated for hit in hits} == {None}
        (await take_ledger(fleet.system)).assert_exact()
