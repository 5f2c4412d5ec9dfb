"""What operators do with experiments: they begin, look at, end and promote them."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import ConfigError, InvalidRequest, NotReady, Remedy, UnknownExperiment
from embedfleet.evaluation.planning import MINIMAL_QUERIES
from embedfleet.evaluation.verdicts import Finding
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
from embedfleet.records import (
    audit,
    collections,
    documents,
    experiment_questions,
    experiments,
    model_switches,
)
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
    """A request that was checked: `infos` of models A and B, and the collection that has A's documents."""

    experiment_id: str
    infos: Sequence[ModelInfo]
    source: Collection
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
        return await self._database.read(
            partial(
                telling.planned,
                request=request,
                collection=wanted.source,
                drawn=wanted.drawn,
                settings=self._settings,
                warnings=_warnings(request, wanted.drawn),
            )
        )

    async def begin(self, request: ExperimentRequest) -> ExperimentInfo:
        """Begin a comparison. It ends by itself: when it is decided, and after `days` at the latest.

        Raises InvalidRequest for a wrong value, while the tenant has another experiment or switch under way,
        or if it has no documents of model A; UnknownModel; and ConfigError without the extra `evaluation`.
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
            switch = _spaces(conn, request, wanted, now)
            a, b = switch.from_collection, switch.to_collection
            new = Experiment(
                experiment_id=wanted.experiment_id,
                tenant=request.tenant,
                owner=request.owner,
                collection_a=a if a.model == request.model_a else b,
                collection_b=b if a.model == request.model_a else a,
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
            experiments.change(conn, present, keep=False, kept_until=now)
            if not one.running:
                details = {"experiment_id": experiment_id}
                audit.add(conn, Deed(self._actor, "experiment.free", one.tenant, details), now)

        await self._database.write(free)
        return await self._info(experiment_id)

    async def promote(self, experiment_id: str) -> ExperimentInfo:
        """Switch the tenant to model B, with all that is in its space already. A running experiment ends.

        The switch goes through its gate, as any other. Raises UnknownExperiment, and NotReady if model A was
        found to be better, or while the second space is emptied.
        """
        one = await self._database.read(lambda conn: _known(conn, experiment_id))
        now = self._clock.now()
        verdict = one.findings.get("verdict")
        if verdict is not None and verdict["finding"] == Finding.A_BETTER:
            raise NotReady(
                f"experiment `{experiment_id}`: {verdict['sentence']}, so there is nothing to promote: order "
                "the switch itself if you want it all the same"
            )
        info = await asyncio.to_thread(self._catalogue.info, one.collection_b.model)
        settings = self._settings.experiments

        def promote(conn: Connection) -> None:
            _promote(conn, one, info, now)
            details = {"experiment_id": experiment_id, "model": info.name}
            audit.add(conn, Deed(self._actor, "experiment.promote", one.tenant, details), now)

        # First the promotion: the leader may free the space of an experiment as soon as that has ended.
        await self._database.write(promote)
        if one.running:
            await ending.end(self._database, one, "its model was promoted", settings, now, actor=self._actor)
        return await self._info(experiment_id)

    async def _info(self, experiment_id: str) -> ExperimentInfo:
        return await self._database.read(lambda conn: telling.info(conn, _known(conn, experiment_id)))

    async def _prepared(self, request: ExperimentRequest) -> _Prepared:
        """Check the request, and draw its questions."""
        _check(request)
        infos = [
            await asyncio.to_thread(self._catalogue.info, name) for name in (request.model_a, request.model_b)
        ]
        if infos[0].space == infos[1].space:
            raise InvalidRequest(
                f"models `{request.model_a}` and `{request.model_b}` have one space, so their answers are "
                "the same: name another model"
            )
        now = self._clock.now()
        source = await self._database.read(partial(_source, request=request, infos=infos))
        experiment_id = f"exp_{int(now * 1000):012x}{secrets.token_hex(4)}"
        since = now - self._settings.experiments.query_log_days * _SECONDS_PER_DAY
        seed = int(experiment_id[4:], 16)
        found = await drawn(self._database, request, source, seed=seed, since=since)
        if not found.questions and not request.online:
            raise InvalidRequest(
                f"tenant `{request.tenant}`: no question could be made from {_PLACES[request.source]}"
            )
        return _Prepared(experiment_id, infos, source, found)


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


def _source(conn: Connection, request: ExperimentRequest, infos: Sequence[ModelInfo]) -> Collection:
    """Return the collection with the documents of model A. Raises InvalidRequest if it cannot be compared."""
    tenant = request.tenant
    live = documents.live_by_collection(conn, tenant)
    filled = [one for one in collections.of_tenant(conn, tenant) if live.get(one.collection_id)]
    found = [one for one in filled if one.space == infos[0].space]
    if not found:
        told = ", ".join(f"`{one.model}`" for one in filled) or "none"
        raise InvalidRequest(
            f"tenant `{tenant}` has no documents of model `{request.model_a}`, but of {told}: name one of "
            "these as model A",
            field="model_a",
        )
    switch = model_switches.running_of(conn, [tenant]).get(tenant)
    if switch is None and any(one.space == infos[1].space for one in filled):
        raise InvalidRequest(
            f"tenant `{tenant}` has different documents of `{request.model_a}` and of `{request.model_b}`: "
            "only models that have the same documents can be compared",
            field="model_b",
        )
    return found[0]


def _spaces(conn: Connection, request: ExperimentRequest, wanted: _Prepared, now: float) -> ModelSwitch:
    """Return the switch that keeps both spaces in step: one that is under way, or a trial that begins now."""
    switch = model_switches.running_of(conn, [request.tenant]).get(request.tenant)
    spaces = {one.space for one in wanted.infos}
    if switch is not None and not switch.is_trial and switch.writes_both and _spaces_of(switch) == spaces:
        return switch
    return orders.begin_trial(
        conn, request.tenant, wanted.infos[1], wanted.source.model, wanted.experiment_id, now
    )


def _spaces_of(switch: ModelSwitch) -> set[str]:
    return {switch.from_collection.space, switch.to_collection.space}


def _promote(conn: Connection, one: Experiment, info: ModelInfo, now: float) -> None:
    tenant = one.tenant
    switch = model_switches.running_of(conn, [tenant]).get(tenant)
    if switch is not None and switch.trial_of == one.experiment_id:
        orders.promote(conn, tenant)
    elif switch is not None and not switch.is_trial and switch.to_collection == one.collection_b:
        orders.serve(conn, tenant, 100.0, now)
    elif switch is not None and not switch.is_trial and switch.from_collection == one.collection_b:
        orders.rollback(conn, tenant, now)
    else:
        # Its space was freed. What is still in the cache of vectors costs nothing again.
        orders.begin(conn, [tenant], orders.Wanted(info, from_model=one.collection_a.model), now)


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
