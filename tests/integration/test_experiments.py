"""Two models are compared by a tenant's questions, and the verdict is the truth."""

from __future__ import annotations

from functools import partial
from time import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, NotReady, UnknownExperiment, VectorStoreUnavailable
from embedfleet.evaluation.verdicts import Finding
from embedfleet.experiments import administration as experiments_administration
from embedfleet.experiments import ending, runner
from embedfleet.experiments.runner import ExperimentRunner
from embedfleet.model_switching import orders
from embedfleet.model_switching.arm_asking import ArmAsking
from embedfleet.records import audit, experiment_questions
from embedfleet.records import experiments as records
from embedfleet.records.scope import EveryTenant
from embedfleet.sql.database import Database
from embedfleet.sql.experiment_tables import experiment_hits, experiments
from embedfleet.sql.states import ExperimentPhase, QuestionSource, SwitchPhase
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import CollectionKey, Hit, VectorStore
from support.databases import on_both_databases
from support.experiments import administration, begin, ended, questions, row, wanted
from support.hangs import HANG_SECONDS
from support.model_switches import (
    MODELS,
    NEW,
    OLD,
    HeldCatalogue,
    document,
    order,
    search,
    switch_of,
    until_phase,
)
from support.model_switches import begin as begin_switch
from support.stages_by_hand import stages_by_hand
from support.system import TENANT, Configure, Running, running, take_ledger, until

SOME = 26
QUICK: dict[str, Any] = {"models": MODELS, "experiments": {"pilot_questions": 10, "questions_per_step": 60}}


async def submit_some(fleet: Running, count: int = SOME) -> None:
    job_ids = [await fleet.submit(**document(number)) for number in range(count)]
    for job_id in job_ids:
        await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


def labelled(**more: Any) -> dict[str, Any]:
    """Enough questions for a verdict, in ten forms about each of the documents."""
    return {
        "source": QuestionSource.LABELLED,
        "questions": questions(SOME),
        "smallest_difference": 0.1,
        "metric": "recall@3",
    } | more


async def test_a_worse_model_is_found_and_its_space_is_freed(configure: Configure) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models, spoilt=0.5)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet)
        begun = await begin(fleet, **labelled())
        await ended(fleet, begun.experiment_id)
        shown = await administration(fleet).show(begun.experiment_id)
        told, verdict = shown.experiment, shown.experiment.verdict
        assert verdict is not None
        assert (told.reason, verdict.finding) == ("it is decided", Finding.A_BETTER)
        assert verdict.sentence.startswith(f"{OLD} better by ")
        assert told.plan.by_pilot
        assert told.checks is not None
        assert (told.checks.passed, told.checks.unequal, told.checks.repeated) == (True, 0, 10)

        assert shown.metrics[0].value == "recall@3"
        assert shown.metrics[0].b < shown.metrics[0].a
        assert {one.name for one in shown.slices} >= {"length"}
        assert len(shown.worst) == 10
        worst = shown.worst[0]
        assert (worst.score_a, worst.score_b, worst.text is None) == (1.0, 0.0, False)
        assert [one.is_right for one in worst.a].count(True) == 1
        assert worst.a[0].text is not None
        assert shown.spaces[0].bytes_per_vector == 2 * shown.spaces[1].bytes_per_vector
        assert shown.spaces[0].tokens == shown.spaces[1].tokens > 0

        # No search saw the worse space, and it is emptied at once.
        assert (await search(fleet, "copper gardens")).model == OLD
        switch = await until_phase(fleet, SwitchPhase.ENDED)
        assert switch.findings["receipt"]["vectors_left"] == 0
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        with pytest.raises(NotReady, match="static better by"):
            await administration(fleet).promote(begun.experiment_id)
        deeds = await fleet.system.database.read(
            lambda conn: audit.page(conn, EveryTenant(), limit=9, after=None)
        )
        assert [one.deed.action for one in deeds] == ["experiment.end", "experiment.begin"]


async def test_a_model_that_is_compared_with_its_like_is_not_called_better(configure: Configure) -> None:
    """The same vectors under two names, as an A/A test has them: the second model only looks different."""
    models = MODELS | {"catalogue": {NEW: {"backend": "static", "dimensions": 256, "query_prefix": " "}}}
    async with running(configure(**(QUICK | {"models": models}))) as fleet:
        await submit_some(fleet)
        begun = await begin(fleet, **labelled())
        one = await ended(fleet, begun.experiment_id)
        verdict = one.findings["verdict"]
        assert verdict["difference"] == 0.0
        assert verdict["finding"] in (Finding.SAME, Finding.CANNOT_TELL)


async def test_a_process_that_dies_goes_on_where_it_was(configure: Configure) -> None:
    settings = configure(**(QUICK | {"experiments": {"pilot_questions": 10, "questions_per_step": 4}}))
    async with running(settings) as fleet:
        await submit_some(fleet)
        begun = await begin(fleet, **labelled())

        async def asked(number: int) -> bool:
            one = await row(fleet, begun.experiment_id)
            counted = partial(experiment_questions.count_asked, experiment=one)
            return one.phase is ExperimentPhase.ASKING and await fleet.system.database.read(counted) > number

        await until(lambda: asked(30), fleet.system.database)
    async with running(settings) as fleet:
        one = await row(fleet, begun.experiment_id)
        before = await fleet.system.database.read(lambda conn: experiment_questions.asked(conn, one))
        assert 30 < len(before) < 10 * SOME
        await until(lambda: asked(len(before) + 10), fleet.system.database)
        after = await fleet.system.database.read(lambda conn: experiment_questions.asked(conn, one))
        # What was asked before was not asked again: even its times are the same.
        assert after[: len(before)] == before
        assert [each.place for each in after] == list(range(len(after)))


async def test_what_is_known_at_the_end_of_its_time_is_said(configure: Configure) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 3)
        catalogue.goes_on.clear()
        try:
            begun = await begin(fleet)
            assert begun.warnings[-1].startswith("there are 6 questions: fewer than 250")
            past = update(experiments).values(expires_at=time() - 1)
            await fleet.system.database.write(lambda conn: conn.execute(past))
            one = await ended(fleet, begun.experiment_id)
        finally:
            catalogue.goes_on.set()
        assert (one.findings["reason"], one.findings["verdict"]) == ("its time is over", None)
        await until_phase(fleet, SwitchPhase.ENDED)
        again = await begin(fleet)
        one = await ended(fleet, again.experiment_id)
        assert one.findings["reason"] == "all of its questions were asked"
        assert one.findings["verdict"]["sentence"].startswith("cannot tell: about 6,")


@on_both_databases
async def test_the_promoted_model_is_switched_to_without_embedding_anything_again(
    configure: Configure,
) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 12)
        begun = await begin(fleet)
        # What comes in during the comparison is in both spaces, and waits for none.
        assert (await fleet.ingest(**document(50))).model == OLD
        await ended(fleet, begun.experiment_id)
        assert (await switch_of(fleet.system.database)).phase is SwitchPhase.FILLING
        with pytest.raises(InvalidRequest, match="belongs to experiment"):
            await order(fleet, orders.serve, percent=100.0, now=time())
        with pytest.raises(InvalidRequest, match="belongs to experiment"):
            await begin_switch(fleet)
        embedded = fleet.embedded()
        await administration(fleet).promote(begun.experiment_id)
        await until_phase(fleet, SwitchPhase.SERVING)
        assert fleet.embedded() == embedded
        hits = await search(fleet, document(50)["title"])
        assert hits.model == NEW
        assert "doc-50" in [hit.media_id for hit in hits]


async def test_a_promotion_does_not_lose_the_space_to_the_leader_who_frees_those_of_ended_experiments(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models)
    catalogue.goes_on.clear()  # nothing is asked, so there is no verdict, and its space is not kept
    end = ending.end

    async def end_and_free(database: Database, *given: Any, **more: Any) -> bool:
        ended = await end(database, *given, **more)
        switch = await switch_of(database)
        if switch.is_trial:
            await database.write(partial(runner._free, switch=switch, now=time()))
        return ended

    async with running(settings, catalogue=catalogue) as fleet:
        try:
            await submit_some(fleet, 3)
            begun = await begin(fleet)
            monkeypatch.setattr(ending, "end", end_and_free)
            await administration(fleet).promote(begun.experiment_id)
            switch = await switch_of(fleet.system.database)
            assert (switch.is_trial, switch.phase) == (False, SwitchPhase.FILLING)
        finally:
            catalogue.goes_on.set()
        assert (await row(fleet, begun.experiment_id)).findings["reason"] == "its model was promoted"
        assert (await administration(fleet).show(begun.experiment_id)).experiment.promoted == NEW
        await until_phase(fleet, SwitchPhase.SERVING)


async def test_a_promotion_while_the_space_is_emptied_is_refused(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 3)
        begun = await begin(fleet, keep=True)
        one = await ended(fleet, begun.experiment_id)
        wanted_switch = orders.Wanted(fleet.system.catalogue.info(NEW), OLD)

        def promote(conn: Connection) -> None:
            """In one unit, so that the leader does not empty the space in between."""
            orders.retire_trial(conn, TENANT, time())
            with pytest.raises(NotReady, match=f"the space of `{NEW}` is being emptied"):
                experiments_administration._promote(conn, one, one.arm_b, wanted_switch, time())

        await fleet.system.database.write(promote)
        await until_phase(fleet, SwitchPhase.ENDED)


async def test_a_space_is_retired_by_hand_when_its_experiment_has_ended(configure: Configure) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models)
    catalogue.goes_on.clear()
    async with running(settings, catalogue=catalogue) as fleet:
        try:
            await submit_some(fleet, 3)
            begun = await begin(fleet, keep=True)
            with pytest.raises(InvalidRequest, match=f"belongs to experiment `{begun.experiment_id}`"):
                await order(fleet, orders.retire, now=time())
        finally:
            catalogue.goes_on.set()
        await ended(fleet, begun.experiment_id)
        assert (await order(fleet, orders.retire, now=time())).phase is SwitchPhase.RETIRING
        shown = (await administration(fleet).show(begun.experiment_id)).experiment
        assert (shown.keep, shown.space_kept_until) == (False, None)
        await until_phase(fleet, SwitchPhase.ENDED)
        # Nothing is in the way of another switch.
        await begin_switch(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)


async def test_a_space_is_kept_as_long_as_it_was_asked_for(configure: Configure) -> None:
    async with running(configure(**(QUICK | {"experiments": {"keep_days": 0.0}}))) as fleet:
        await submit_some(fleet, 4)
        begun = await begin(fleet, keep=True)
        await ended(fleet, begun.experiment_id)
        shown = (await administration(fleet).show(begun.experiment_id)).experiment
        assert (shown.keep, shown.space_kept_until) == (True, None)
        assert (await switch_of(fleet.system.database)).is_trial
        # The next comparison of the same models takes it over; nothing is embedded again.
        embedded = fleet.embedded()
        again = await begin(fleet)
        await ended(fleet, again.experiment_id)
        assert fleet.embedded() == embedded
        await until_phase(fleet, SwitchPhase.ENDED)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_step_that_finds_nothing_to_do_writes_nothing(configure: Configure) -> None:
    """A step follows each write: one that wrote would follow itself, as long as a space is kept."""
    settings = configure(**QUICK)
    async with running(settings) as fleet:
        await submit_some(fleet, 4)
        begun = await begin(fleet, keep=True)
        await ended(fleet, begun.experiment_id)
    async with stages_by_hand(settings) as stages:
        system = stages.system
        asking = ArmAsking(system.database, system.search.spaces)
        found = ExperimentRunner(system.database, asking, SystemClock(), settings)
        before = await system.database.writes_noticed()
        for _ in range(10):
            await found.step()
        # What was written before this has been noticed when it is done.
        await system.database.write(lambda conn: None)
        assert await system.database.writes_noticed() < before + 10
        await administration(stages).end(begun.experiment_id)
        await found.step()
        assert (await switch_of(system.database)).phase is SwitchPhase.RETIRING


class StoreAwayFor(PassingStore):
    """The vectors of this tenant cannot be searched for now."""

    def __init__(self, inner: VectorStore, tenant: str) -> None:
        super().__init__(inner)
        self.tenant: str | None = tenant

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        if collection.tenant == self.tenant:
            raise VectorStoreUnavailable("its node is away")
        return await super().query(collection, vector, limit=limit)


async def test_an_experiment_that_waits_for_a_service_holds_up_no_other(configure: Configure) -> None:
    settings = configure(**QUICK)
    store = StoreAwayFor(await ChromaVectorStore.open(chroma_directory(settings.data_dir)), "first")
    async with running(settings, store=store) as fleet:
        for tenant in ("first", "second"):
            for number in range(3):
                await fleet.ingest(**document(number), user_id=tenant)
        first, second = [await begin(fleet, tenant=tenant) for tenant in ("first", "second")]
        await ended(fleet, second.experiment_id)
        assert (await row(fleet, first.experiment_id)).running
        store.tenant = None
        await ended(fleet, first.experiment_id)


async def test_an_experiment_whose_space_is_taken_away_ends(configure: Configure) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 3)
        await begin_switch(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        await order(fleet, orders.rollback, now=time())
        # Both spaces are there already, by a switch: they are used, and the switch is not touched.
        begun = await begin(fleet, source=QuestionSource.CLICKS)
        assert not (await switch_of(fleet.system.database)).is_trial
        await order(fleet, orders.retire, now=time())
        one = await ended(fleet, begun.experiment_id)
        assert one.findings["reason"].startswith("its second space is gone")


async def test_an_end_by_hand_keeps_what_was_found_since_the_experiment_was_read(
    configure: Configure,
) -> None:
    settings = configure(**QUICK)
    catalogue = HeldCatalogue(settings.models)
    catalogue.goes_on.clear()  # so that the leader finds nothing
    async with running(settings, catalogue=catalogue) as fleet:
        try:
            await submit_some(fleet, 3)
            begun = await begin(fleet, source=QuestionSource.CLICKS)
            read, database = await row(fleet, begun.experiment_id), fleet.system.database
            enter = partial(records.enter, one=read, phase=ExperimentPhase.SHOWING, documents=3, lacking=1)
            assert await database.write(enter)
            assert await ending.end(database, read, "it was ended by hand", settings.experiments, time())
            found = (await row(fleet, begun.experiment_id)).findings
            assert (found["reason"], found["lacking"]) == ("it was ended by hand", 1)
        finally:
            catalogue.goes_on.set()


async def test_what_cannot_be_compared_is_said(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        door = administration(fleet)
        with pytest.raises(InvalidRequest, match="no documents of model `static`, but of none"):
            await begin(fleet)
        await submit_some(fleet, 2)
        for field, value, message in (
            ("metric", "ndgc@10", "is no metric"),
            ("owner", " ", "who decides"),
            ("smallest_difference", 2.0, "less than 1"),
            ("days", 365.0, "less than or equal to 90"),
        ):
            with pytest.raises(InvalidRequest, match=message):
                wanted(**{field: value})
        with pytest.raises(InvalidRequest, match="have one space"):
            await begin(fleet, model_b=OLD)
        with pytest.raises(InvalidRequest, match="no right answer is one of its documents"):
            await begin(fleet, source=QuestionSource.LABELLED, questions=questions(5)[-3:])
        with pytest.raises(InvalidRequest, match="its logged searches"):
            await begin(fleet, source=QuestionSource.QUERY_LOG)
        with pytest.raises(UnknownExperiment, match="no experiment `exp_0`"):
            await door.show("exp_0")
        planned = await door.plan(wanted())
        assert (planned.questions, planned.plan.by_pilot, planned.to_embed.documents) == (4, False, 2)
        assert planned.plan.queries > 5_000
        begun = await begin(fleet, days=1.0, source=QuestionSource.CLICKS)
        with pytest.raises(InvalidRequest, match=f"experiment `{begun.experiment_id}` of Ada is under way"):
            await begin(fleet)
        assert (await door.end(begun.experiment_id)).reason == "it was ended by hand"
        assert [one.experiment_id for one in await door.list_experiments()] == [begun.experiment_id]


async def test_a_deleted_document_takes_along_what_was_asked_of_it(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet, 3)
        begun = await begin(fleet)
        one = await ended(fleet, begun.experiment_id)
        await fleet.jobs.of(TENANT).delete_document(media_id="doc-1")
        await fleet.settled()
        query = select(experiment_hits.c.document_id).distinct()
        left = await fleet.system.database.read(lambda conn: conn.execute(query).all())
        assert len(left) == 2
        asked = await fleet.system.database.read(lambda conn: experiment_questions.asked(conn, one))
        assert len(asked) == 4
