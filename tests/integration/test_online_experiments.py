"""People search, get hits of both models, and their clicks say which model is better."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, UnknownImpression
from embedfleet.evaluation.verdicts import Finding
from embedfleet.experiments.runner import ExperimentRunner
from embedfleet.model_switching.arm_asking import ArmAsking
from embedfleet.queue_schemas import SearchHits
from embedfleet.records import impressions
from embedfleet.records.audit import LOCAL
from embedfleet.searching.impressions import Impressions
from embedfleet.searching.search import SearchRequest
from embedfleet.sql import experiment_tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import ExperimentPhase, QuestionSource
from support.databases import on_both_databases
from support.experiments import administration, begin, clicks_of, ended, keep_answer, row
from support.hangs import HANG_SECONDS
from support.model_switches import MODELS, NEW, OLD, document, search
from support.system import TENANT, Configure, Running, running, until

LOGGING: dict[str, Any] = {"models": MODELS, "experiments": {"query_log_tenants": [TENANT]}}


async def submit_some(fleet: Running, count: int = 6) -> None:
    job_ids = [await fleet.submit(**document(number)) for number in range(count)]
    for job_id in job_ids:
        await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


async def begin_online(fleet: Running) -> str:
    """Begin an online experiment. Return its id when searches are mixed."""
    begun = await begin(fleet, source=QuestionSource.CLICKS)

    async def is_showing() -> bool:
        return (await row(fleet, begun.experiment_id)).phase is ExperimentPhase.SHOWING

    await until(is_showing, fleet.system.database)
    return begun.experiment_id


async def kept(fleet: Running, hits: SearchHits) -> Any:
    table = experiment_tables.impressions
    query = select(table).where(table.c.impression_id == hits.impression_id)
    return await fleet.system.database.read(lambda conn: conn.execute(query).one())


@on_both_databases
async def test_people_see_hits_of_both_models_and_their_clicks_decide(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet)
        before = await search(fleet, "copper gardens")
        assert (before.impression_id, before.model) == (None, OLD)
        experiment_id = await begin_online(fleet)
        hits = await search(fleet, "copper gardens")
        assert hits.models == (OLD, NEW)
        assert hits.notice == (
            "the hits are of two models that are compared, in turn: their scores do not compare"
        )
        assert hits[0].media_id == "doc-2"
        assert {hit.model for hit in hits} == {None}, "no reader can tell which model found a hit"
        assert len({hit.media_id for hit in hits}) == len(hits) == 5, "what both found is shown once"
        one = await kept(fleet, hits)
        assert (one.experiment_id, one.query) == (experiment_id, None)
        assert sorted(one.teams[:4]) == ["a", "a", "b", "b"]
        # A search that names a model is not part of it.
        named = await search(fleet, "copper gardens", model=OLD)
        assert (named.impression_id, named.model) == (None, OLD)

        mine = fleet.jobs.of(TENANT)
        assert hits.impression_id is not None
        first = await mine.feedback(hits.impression_id, [hits[1].chunk_id])
        assert first.clicked == (1,)
        assert await mine.feedback(hits.impression_id, [hits[1].chunk_id, 1]) == first
        assert (await mine.feedback(hits.impression_id, [0])).clicked == (0, 1)
        for wrong in (5, -1, "00" * 16, "other"):
            with pytest.raises(InvalidRequest, match="is not in the answer"):
                await mine.feedback(hits.impression_id, [wrong])

        # An answer counts when no more clicks on it are taken. Most people prefer B.
        database = fleet.system.database
        for number in range(300):
            click = [1] if number % 3 else [0]
            await keep_answer(
                database,
                TENANT,
                f"imp_{number}",
                teams="ab",
                clicks=click,
                experiment_id=experiment_id,
                shown_seconds_ago=3600.0,
            )
        one = await ended(fleet, experiment_id)
        verdict = one.findings["verdict"]
        assert (one.findings["reason"], verdict["finding"]) == ("it is decided", Finding.B_BETTER)
        assert 250 <= verdict["queries"] <= 300
        assert one.findings["checks"]["passed"]
        after = await search(fleet, "copper gardens")
        assert (after.impression_id, after.model) == (None, OLD)
        shown = (await administration(fleet).show(experiment_id)).experiment
        assert shown.asked == 301


async def test_feedback_is_taken_for_a_while_and_of_its_tenant_only(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        database = fleet.system.database
        await keep_answer(database, TENANT, "imp_new")
        await keep_answer(database, TENANT, "imp_old", shown_seconds_ago=1801.0)
        for tenant, impression_id in ((TENANT, "imp_old"), (TENANT, "imp_none"), ("bob", "imp_new")):
            with pytest.raises(UnknownImpression, match="from an answer of the last 30m"):
                await fleet.jobs.of(tenant).feedback(impression_id, [0])
        assert await clicks_of(database, "imp_old") == await clicks_of(database, "imp_new") == "[]"


async def test_searches_are_logged_for_the_named_tenants_only_and_become_questions(
    configure: Configure,
) -> None:
    async with running(configure(**LOGGING)) as fleet:
        await submit_some(fleet)
        await fleet.ingest("other", "Another text.", user_id="bob")
        unlogged = await fleet.system.search.search("bob", SearchRequest(query="a text of bob"))
        assert unlogged.impression_id is None
        for number in range(4):
            hits = await search(fleet, document(number)["title"])
            assert hits.impression_id is not None
            assert (await kept(fleet, hits)).query == document(number)["title"]
            if number < 3:
                await fleet.jobs.of(TENANT).feedback(hits.impression_id, [0])
        await search(fleet, document(3)["title"].upper())  # the same text again

        door = administration(fleet)
        begun = await begin(fleet, source=QuestionSource.QUERY_LOG, metric="mrr@10")
        assert begun.questions == 3
        assert "the labels favour it" in begun.warnings[0]
        one = await ended(fleet, begun.experiment_id)
        assert one.findings["left_out"] == {"repeated": 1, "without_a_click": 1}
        assert (await door.show(begun.experiment_id)).metrics[0].queries == 3

        # Without labels, only how alike both are is said.
        begun = await begin(fleet, source=QuestionSource.QUERY_LOG, metric="overlap@5")
        assert begun.questions == 4
        one = await ended(fleet, begun.experiment_id)
        assert one.findings["verdict"]["finding"] == Finding.CANNOT_TELL
        assert "not which is better" in one.findings["verdict"]["sentence"]
        shown = await door.show(begun.experiment_id)
        assert shown.overlap is not None
        assert (shown.metrics, shown.worst) == ((), ())


async def test_old_searches_are_forgotten_and_those_of_a_deleted_tenant(configure: Configure) -> None:
    async with running(configure(**LOGGING)) as fleet:
        await submit_some(fleet, 2)
        system, database = fleet.system, fleet.system.database
        hits = await search(fleet, "copper gardens")
        await keep_answer(database, TENANT, "imp_old", query="old", shown_seconds_ago=31 * 86_400.0)
        asking = ArmAsking(database, system.search.spaces)
        await ExperimentRunner(database, asking, SystemClock(), system.settings).trim()
        left = partial(impressions.logged, tenant=TENANT, since=0.0)
        assert [one.impression_id for one in await database.read(left)] == [hits.impression_id]

        administrator = OperatorAdministration(database, SystemClock(), system.settings, actor=LOCAL)
        receipt_id = await administrator.delete_tenant(TENANT)
        await fleet.jobs.of(TENANT).searched_receipt(receipt_id)
        assert await database.read(left) == []


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(configure: Configure) -> None:
    async with running(configure(**LOGGING)) as fleet:
        await submit_some(fleet, 2)
        hits = await search(fleet, "copper gardens")
        away = Database(fleet.system.settings.database_url, synchronous="normal")
        await away.open()
        await away.close()
        keeper = Impressions(away, SystemClock(), fleet.system.settings.experiments)
        assert await keeper.keep(TENANT, "copper gardens", hits, experiment=None, teams=()) is None
