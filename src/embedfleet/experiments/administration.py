"""What operators do with experiments: they begin, look at, end and promote them."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import ConfigError, InvalidRequest, NotReady, Remedy, UnknownExperiment
from embedfleet.evaluation.planning import MINIMAL_QUERIES
from embedfleet.experiments import ending, judging, telling
from embedfleet.experiments.drawing import Drawn, drawn
from embedfleet.experiments.judging import Pilot
from embedfleet.experiments.metrics import ComparedMetric
from embedfleet.experiments.schemas import (
    ExperimentInfo,
    ExperimentRequest,
    ExperimentResults,
    PlannedExperiment,
)
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import orders
from embedfleet.model_switching.estimate import estimate_filling
from embedfleet.model_switching.orders import Wanted
from embedfleet.records import (
    audit,
    collections,
    documents,
    experiment_questions,
    experiments,
    model_switches,
)
from embedfleet.records.arms import ROUTE, Arm
from embedfleet.records.audit import Deed
from embedfleet.records.collections import Collection
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.experiments import Experiment
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import ExperimentPhase, QuestionSource

_SECONDS_PER_DAY = 86_400.0

_PLACES = {
    QuestionSource.KNOWN_ITEMS: "titles and headings of its documents, as they have none that can be asked: "
    "give labelled questions",
    QuestionSource.LABELLED: "the given ones, as no right answer is one of its documents: look at the names",
    QuestionSource.QUERY_LOG: "its logged searches, as there are none, or none with a click: log searches "
    "for some time, or compare by overlap",
}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that was checked.

    `own` is the arm that the tenant has, `sources` are its collections beside the one of the model `new`,
    which is compared with it.
    """

    experiment_id: str
    own: Arm
    sources: Sequence[Collection]
    new: ModelInfo
    drawn: Drawn


class ExperimentAdministration:
    """The experiments of the whole system, for operators. `actor` stands in the audit log.

    Any method may raise DatabaseUnavailable; those that change something may raise StorageFull.
    """

    def __init__(
        self, database: Database, clock: Clock, catalogue: Catalogue, settings: Settings, *, actor: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._catalogue = catalogue
        self._settings = settings
        self._actor = actor

    async def plan(self, request: ExperimentRequest) -> PlannedExperiment:
        """Return what `begin` would do: the questions, how many are needed, and what the second space costs.

        Raises as `begin` does.
        """
        wanted = await self._prepared(request)
        to_embed = await estimate_filling(
            self._database,
            wanted.sources,
            wanted.new,
            settings=self._settings,
            catalogue=self._catalogue,
            now=self._clock.now(),
        )
        return telling.planned(request, wanted.drawn, to_embed, _warnings(request, wanted.drawn))

    async def begin(self, request: ExperimentRequest) -> ExperimentInfo:
        """Begin a comparison. It ends by itself: when it is decided, and after `days` at the latest.

        Raises InvalidRequest for a wrong value, while the tenant has another experiment or switch under way,
        or if it has no documents of model A, or of the route none beside those of the model; UnknownModel;
        and ConfigError without the extra `evaluation`.
        """
        wanted = await self._prepared(request)
        now = self._clock.now()
        pilot = Pilot.of(len(wanted.drawn.questions), self._settings.experiments.pilot_questions)
        plan = judging.first_plan(request.rule, online=request.online)
        findings = {
            "plan": judging.plan_info(plan, by_pilot=False).model_dump(),
            "pilot": {"questions": pilot.questions, "set_aside": pilot.set_aside},
            "left_out": wanted.drawn.left_out,
            "warnings": _warnings(request, wanted.drawn),
        }

        def begin(conn: Connection) -> Experiment:
            switch = self._spaces(conn, request, wanted, now)
            arms = _arms(request, wanted, switch)
            new = Experiment(
                experiment_id=wanted.experiment_id,
                tenant=request.tenant,
                owner=request.owner,
                arm_a=arms[0],
                arm_b=arms[1],
                source=request.source,
                phase=ExperimentPhase.PREPARING,
                keep=request.keep,
                rule=request.rule.model_dump(),
                begun_at=now,
                expires_at=now + request.days * _SECONDS_PER_DAY,
                findings=findings,
            )
            if not experiments.begin(conn, new):
                raise _under_way(experiments.running_of(conn, request.tenant))
            experiment_questions.add(conn, new, wanted.drawn.questions)
            details = {
                "experiment_id": new.experiment_id,
                "owner": new.owner,
                "model_a": request.model_a,
                "model_b": request.model_b,
                "source": request.source,
                "rule": dict(new.rule),
            }
            audit.add(conn, Deed(self._actor, "experiment.begin", request.tenant, details), now)
            return new

        new = await self._database.write(begin)
        return await self._database.read(partial(telling.info, one=new))

    async def list_experiments(self, *, limit: int = 100, after: str | None = None) -> Page[ExperimentInfo]:
        """Return up to `limit` experiments, newest first.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)

        def look(conn: Connection) -> Page[ExperimentInfo]:
            found = experiments.page(conn, limit=limit, after=after)
            return Page([telling.info(conn, one) for one in found], next_cursor=found.next_cursor)

        return await self._database.read(look)

    async def show(self, experiment_id: str) -> ExperimentResults:
        """Return all that is known of an experiment. Raises UnknownExperiment."""
        return await self._database.read(
            lambda conn: telling.results(conn, _known(conn, experiment_id), self._settings)
        )

    async def end(self, experiment_id: str) -> ExperimentInfo:
        """End the experiment with what is known by now, and free its second space unless it is to be kept.

        Of one that has ended, the space is freed, also one that is kept. Raises UnknownExperiment.
        """
        one = await self._database.read(lambda conn: _known(conn, experiment_id))
        now = self._clock.now()
        if one.running:
            settings = self._settings.experiments
            await ending.end(self._database, one, "it was ended by hand", settings, now, actor=self._actor)

        def free(conn: Connection) -> None:
            present = experiments.lock(conn, experiment_id)
            if present is None or (one.running and present.keep):
                return
            experiments.keep_no_longer(conn, present)
            if not one.running:
                details = {"experiment_id": experiment_id}
                audit.add(conn, Deed(self._actor, "experiment.free", one.tenant, details), now)

        await self._database.write(free)
        return await self._info(experiment_id)

    async def promote(self, experiment_id: str, arm: str | None = None) -> ExperimentInfo:
        """Give the tenant an arm of the experiment: a model, or `route`; None: B. A running experiment ends.

        A model is switched to, with all that is in its space already: the switch goes through its gate, as
        any other. From the route, it takes all documents, and ends the tenant's rules when it ends. The arm
        that the tenant has stays as it is, and the other space is freed. Raises UnknownExperiment,
        InvalidRequest for another arm, and NotReady if the other arm was found to be better, or while the
        second space is emptied.
        """
        one = await self._database.read(lambda conn: _known(conn, experiment_id))
        chosen = _arm_of(one, arm)
        now = self._clock.now()
        verdict = one.findings.get("verdict")
        rival = one.arm_a if chosen == one.arm_b else one.arm_b
        if verdict is not None and verdict["finding"] == ending.better_of(one, rival):
            remedy = f"promote `{rival.name}`" if rival == one.other else "order the switch itself"
            raise NotReady(
                f"experiment `{experiment_id}`: {verdict['sentence']}, so there is nothing to promote: "
                f"{remedy} if you want it all the same"
            )
        wanted = None
        if chosen.collection is not None:
            info = await asyncio.to_thread(self._catalogue.info, chosen.collection.model)
            wanted = self._wanted(info, one.own.name)
        settings = self._settings.experiments

        def promote(conn: Connection) -> None:
            # Locked before its switch, as where an experiment ends and its space is freed.
            present = experiments.lock(conn, experiment_id)
            assert present is not None
            experiments.record_promotion(conn, present, chosen)
            _promote(conn, one, chosen, wanted, now)
            details = {"experiment_id": experiment_id, "model": chosen.name}
            audit.add(conn, Deed(self._actor, "experiment.promote", one.tenant, details), now)

        # First the promotion: the leader may free the space of an experiment as soon as that has ended.
        is_new = chosen != one.own
        if is_new:
            await self._database.write(promote)
        if one.running:
            told = "its route was promoted" if chosen.is_route else "its model was promoted"
            await ending.end(self._database, one, told, settings, now, actor=self._actor)
        if not is_new:
            await self._database.write(promote)
        return await self._info(experiment_id)

    def _wanted(self, info: ModelInfo, from_model: str, *, percent: float = 100.0) -> Wanted:
        rules_apply = bool(self._settings.models.routing.rules)
        return Wanted(info, from_model, percent, rules_apply=rules_apply)

    def _spaces(
        self, conn: Connection, request: ExperimentRequest, wanted: _Prepared, now: float
    ) -> ModelSwitch:
        """Return the switch that keeps both arms in step: one under way, or a trial that begins now."""
        switch = model_switches.running_of(conn, [request.tenant]).get(request.tenant)
        if switch is not None and not switch.is_trial and switch.writes_both:
            sides = {_space_of(switch.old), _space_of(switch.new)}
            if sides == {_space_of(wanted.own), wanted.new.space}:
                return switch
        trial = self._wanted(wanted.new, wanted.own.name, percent=0.0)
        return orders.begin_trial(conn, request.tenant, trial, wanted.experiment_id, now)

    async def _info(self, experiment_id: str) -> ExperimentInfo:
        return await self._database.read(lambda conn: telling.info(conn, _known(conn, experiment_id)))

    async def _prepared(self, request: ExperimentRequest) -> _Prepared:
        """Check the request, and draw its questions."""
        _check(request)
        names = [request.model_a, request.model_b]
        if ROUTE in names and ROUTE in self._catalogue.names():
            raise InvalidRequest(
                f"`{ROUTE}` means the tenant's routing here, and a model has this name: give the model "
                "another name in the settings"
            )
        infos = {name: await asyncio.to_thread(self._catalogue.info, name) for name in names if name != ROUTE}
        if len({one.space for one in infos.values()} | {ROUTE for name in names if name == ROUTE}) < 2:
            raise InvalidRequest(
                f"`{request.model_a}` and `{request.model_b}` have one space, so their answers are the same: "
                "name another model"
            )
        now = self._clock.now()
        own, sources = await self._database.read(partial(_own, request=request, infos=infos))
        new = infos[request.model_a if request.model_b == ROUTE else request.model_b]
        experiment_id = f"exp_{int(now * 1000):012x}{secrets.token_hex(4)}"
        since = now - self._settings.experiments.query_log_days * _SECONDS_PER_DAY
        seed = int(experiment_id[4:], 16)
        found = await drawn(self._database, request, own, seed=seed, since=since)
        if not found.questions and not request.online:
            raise InvalidRequest(
                f"tenant `{request.tenant}`: no question could be made from {_PLACES[request.source]}"
            )
        return _Prepared(experiment_id, own, sources, new, found)


def _check(request: ExperimentRequest) -> None:
    labelled = request.source is QuestionSource.LABELLED
    if labelled != bool(request.questions):
        raise InvalidRequest(
            "questions: labelled questions belong to the source `labelled`, which needs some",
            field="questions",
        )
    metric = ComparedMetric.parse(request.metric)
    if metric.metric is not None and not request.online and importlib.util.find_spec("ir_measures") is None:
        raise ConfigError(
            "metrics of answers need the package ir-measures: install the extra `evaluation` of embedfleet, "
            "or compare by overlap"
        )


def _own(
    conn: Connection, request: ExperimentRequest, infos: Mapping[str, ModelInfo]
) -> tuple[Arm, Sequence[Collection]]:
    """Return the arm that the tenant has, and its collections beside that of the model it is compared with.

    Raises InvalidRequest if the two cannot be compared.
    """
    tenant = request.tenant
    live = documents.live_by_collection(conn, tenant)
    filled = [one for one in collections.of_tenant(conn, tenant) if live.get(one.collection_id)]
    told = ", ".join(f"`{one.model}`" for one in filled) or "none"
    if len(infos) < 2:
        [(name, info)] = infos.items()
        others = [one for one in filled if one.space != info.space]
        if not others:
            raise InvalidRequest(
                f"tenant `{tenant}` has documents of {told} only, so its route and model `{name}` for "
                "everything are the same: route some documents to other models first"
            )
        return Arm(None), others
    found = [one for one in filled if one.space == infos[request.model_a].space]
    if not found:
        raise InvalidRequest(
            f"tenant `{tenant}` has no documents of model `{request.model_a}`, but of {told}: name one of "
            "these as model A",
            field="model_a",
        )
    switch = model_switches.running_of(conn, [tenant]).get(tenant)
    if switch is None and any(one.space == infos[request.model_b].space for one in filled):
        raise InvalidRequest(
            f"tenant `{tenant}` has different documents of `{request.model_a}` and of `{request.model_b}`: "
            f"only models that have the same documents can be compared. Compare `{ROUTE}`, which is all that "
            "the tenant has, with one of them",
            field="model_b",
        )
    return Arm(found[0]), found[:1]


def _arms(request: ExperimentRequest, wanted: _Prepared, switch: ModelSwitch) -> tuple[Arm, Arm]:
    """Return the sides of the switch as A and B."""
    is_new = _space_of(switch.new) == wanted.new.space
    new, own = (switch.new, switch.old) if is_new else (switch.old, switch.new)
    return (new, own) if request.model_b == ROUTE else (own, new)


def _promote(conn: Connection, one: Experiment, chosen: Arm, wanted: Wanted | None, now: float) -> None:
    tenant = one.tenant
    switch = model_switches.running_of(conn, [tenant]).get(tenant)
    mine = switch if switch is not None and one.is_of(switch.old, switch.new) else None
    if mine is not None and not mine.is_trial:
        orders.serve(conn, tenant, 100.0 if chosen == mine.new else 0.0, now)
    elif chosen == one.own:
        # The tenant has it. What was filled for the comparison is not needed any more.
        present = experiments.lock(conn, one.experiment_id)
        assert present is not None
        experiments.keep_no_longer(conn, present)
    elif mine is not None and mine.trial_of == one.experiment_id:
        orders.promote(conn, tenant)
    elif wanted is not None:
        # Its space was freed. What is still in the cache of vectors costs nothing again.
        orders.begin(conn, [tenant], wanted, now)


def _space_of(arm: Arm) -> str | None:
    """Return the space of an arm; None: it is the route."""
    return None if arm.collection is None else arm.collection.space


def _arm_of(one: Experiment, name: str | None) -> Arm:
    """Return the arm of this name; B for None. Raises InvalidRequest."""
    found = one.arm_b if name is None else next((arm for arm in one.arms if arm.name == name), None)
    if found is None:
        raise InvalidRequest(
            f"experiment `{one.experiment_id}` has no arm `{name}`: name `{one.arm_a.name}` or "
            f"`{one.arm_b.name}`",
            field="arm",
        )
    return found


def _known(conn: Connection, experiment_id: str) -> Experiment:
    one = experiments.get(conn, experiment_id)
    if one is None:
        raise UnknownExperiment(
            f"no experiment `{experiment_id}`: list the experiments to see which there are",
            remedy=Remedy.LIST_EXPERIMENTS,
        )
    return one


def _under_way(other: Experiment | None) -> InvalidRequest:
    assert other is not None, "one of this tenant is under way"
    return InvalidRequest(
        f"tenant `{other.tenant}`: experiment `{other.experiment_id}` of {other.owner} is under way: wait "
        "for its verdict or end it",
        remedy=Remedy.LIST_EXPERIMENTS,
    )


def _warnings(request: ExperimentRequest, found: Drawn) -> list[str]:
    """Return what weakens the result, in words, known before anything is asked."""
    told: list[str] = []
    if request.online:
        return told
    if request.source is QuestionSource.KNOWN_ITEMS:
        told.append(
            "the questions are titles and headings, whose words are embedded with the passages: they find "
            "damage, and say little about which of two good models is better"
        )
    if request.source is QuestionSource.QUERY_LOG and not request.metric.startswith("overlap"):
        told.append("what was clicked had been found by the model of that time, so the labels favour it")
    if len(found.questions) < MINIMAL_QUERIES:
        told.append(
            f"there are {len(found.questions):,} questions: fewer than {MINIMAL_QUERIES} do not stand for "
            "what people ask, so there will be no verdict"
        )
    return told
