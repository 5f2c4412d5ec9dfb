"""Takes the experiments from phase to phase. All that it knows is in SQL (ADR 37)."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import DatabaseUnavailable, EmbedfleetError, InputError, NotReady, Permanent, one_line
from embedfleet.evaluation.planning import Plan
from embedfleet.evaluation.verdicts import Finding
from embedfleet.experiments import ending, judging
from embedfleet.experiments.asking import Asker
from embedfleet.experiments.judging import Pilot
from embedfleet.experiments.metrics import ComparedMetric
from embedfleet.experiments.schemas import PlanInfo, VerdictInfo, rule_of
from embedfleet.model_switching import orders
from embedfleet.model_switching.arm_asking import ArmAsking
from embedfleet.records import experiment_questions, experiments, impressions, model_switches, switch_gaps
from embedfleet.records.experiments import Experiment
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import ExperimentPhase, QuestionSource, SwitchPhase

_LOCK = "experiments"
_SECONDS_PER_DAY = 86_400.0
# The most rows that one unit drops, so that others need not wait long for it.
_ROWS_PER_UNIT = 500
# To find that a space cannot be emptied, all of its documents are looked through.
_STAYS_SECONDS = 60.0


class ExperimentRunner:
    """Carries the experiments on, in steps that may be interrupted anywhere.

    It belongs to the leader. Of several runners of a system, one at a time does anything: a lock that lives
    with its process says which one.
    """

    def __init__(self, database: Database, asking: ArmAsking, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._asker = Asker(database, asking, clock)
        self._clock = clock
        self._settings = settings.experiments
        # The experiments whose models are loaded. It is of this process, and costs two searches to learn.
        self._warm: set[str] = set()
        # The trials that could not be emptied, and when each is tried again.
        self._stays_until: dict[int, float] = {}

    async def step(self) -> None:
        """Take every experiment as far as it goes in a short time. Without one, do nothing."""
        if not await self._database.read(experiments.any_running):
            return
        async with self._database.sole(_LOCK) as sole:
            if sole is None:
                return
            failures: list[EmbedfleetError] = []
            for one in await self._database.read(experiments.running):
                await sole.require()
                try:
                    await self._take(one)
                except DatabaseUnavailable:
                    raise
                except EmbedfleetError as exc:
                    # It must not hold up the others. It is tried again with the next step.
                    logger.bind(tenant=one.tenant).debug("the experiment goes on later: {}", one_line(exc))
                    failures.append(exc)
            await self._free_spaces()
            if failures:
                raise failures[0]

    async def trim(self) -> None:
        """Drop searches and clicks that are too old, but for those of running experiments."""
        before = self._clock.now() - self._settings.query_log_days * _SECONDS_PER_DAY
        while await self._database.write(partial(impressions.drop_old, limit=_ROWS_PER_UNIT, before=before)):
            pass

    async def _take(self, one: Experiment) -> None:
        switch = await self._database.read(partial(switch_of, experiment=one))
        if switch is None:
            await self._end(one, "its second space is gone: the switch to it was ended", is_trusted=False)
            return
        if self._clock.now() >= one.expires_at:
            await self._end(one, "its time is over")
            return
        try:
            match one.phase:
                case ExperimentPhase.PREPARING:
                    await self._prepare(one, switch)
                case ExperimentPhase.PILOTING:
                    await self._pilot(one)
                case ExperimentPhase.ASKING:
                    await self._ask(one)
                case ExperimentPhase.SHOWING:
                    await self._count_clicks(one)
                case ExperimentPhase.ENDED:
                    return
        except (InputError, Permanent) as exc:
            # A model is gone or broken. What is away for a time is Transient, and is waited for.
            await self._end(one, f"a model could not be asked: {one_line(exc)}")

    async def _free_spaces(self) -> None:
        """Empty the spaces of experiments that have ended, unless they are still kept.

        A look comes first: a step follows each write, so one that wrote each time would follow itself.
        """
        for switch in await self._database.read(partial(_to_free, now=self._clock.now())):
            if monotonic() < self._stays_until.get(switch.switch_id, 0.0):
                continue
            why = await self._database.write(partial(_free, switch=switch, now=self._clock.now()))
            if why is None:
                self._stays_until.pop(switch.switch_id, None)
                continue
            if switch.switch_id not in self._stays_until:
                # Documents are in the second space only. Nothing is lost, and an operator has to look.
                logger.bind(tenant=switch.tenant).warning("a space of an experiment stays: {}", why)
            self._stays_until[switch.switch_id] = monotonic() + _STAYS_SECONDS

    async def _prepare(self, one: Experiment, switch: ModelSwitch) -> None:
        """Wait until the second space is complete, but for documents that it could not get."""
        lacking, under_way = await self._database.read(
            lambda conn: (
                any(switch_gaps.to_copy(conn, way, limit=1) for way in switch.ways),
                model_switches.unfinished_jobs(conn, switch),
            )
        )
        if lacking or under_way:
            return
        counts = await self._database.read(partial(model_switches.counts, switch=switch))
        online = one.source is QuestionSource.CLICKS
        phase = ExperimentPhase.SHOWING if online else ExperimentPhase.PILOTING
        await self._enter(one, phase, documents=counts.documents, lacking=counts.documents - counts.there)

    async def _pilot(self, one: Experiment) -> None:
        """Ask the first questions, A twice. They say how many are needed, and whether to trust the result."""
        pilot = Pilot(**one.findings["pilot"])
        if await self._ask_some(one, before=pilot.questions, twice=True):
            return
        rule, plan = rule_of(one.rule), _plan_of(one)
        if ComparedMetric.parse(rule.metric).metric is None:
            await self._enter(one, ExperimentPhase.ASKING)
            return
        asked = await self._database.read(partial(experiment_questions.asked, experiment=one))
        if not asked:
            await self._end(one, "none of its first questions could be asked", is_trusted=False)
            return
        values = [judging.difference_of(each.result, rule.metric) for each in asked]
        if pilot.set_aside:
            plan = judging.plan_by(rule, values)
        unequal = sum(not each.result["equal"] for each in asked)
        questions = await self._database.read(partial(experiment_questions.count, experiment=one))
        checks = await asyncio.to_thread(
            judging.checked,
            plan,
            values,
            length=min(questions, judging.most_places(pilot, plan, has_verdict=True)) - pilot.first_counted,
            repeated=len(asked),
            unequal=unequal,
        )
        found = {
            "plan": judging.plan_info(plan, by_pilot=pilot.set_aside).model_dump(),
            "checks": checks.model_dump(),
        }
        if checks.passed:
            await self._enter(one, ExperimentPhase.ASKING, **found)
        else:
            await self._end(one, ending.mistrusted(checks), is_trusted=False, **found)

    async def _ask(self, one: Experiment) -> None:
        has_verdict = ComparedMetric.parse(rule_of(one.rule).metric).metric is not None
        last = judging.most_places(Pilot(**one.findings["pilot"]), _plan_of(one), has_verdict=has_verdict)
        if not await self._ask_some(one, before=last):
            await self._end(one, "all of its questions were asked")
            return
        found = await self._look(one)
        if found is not None and found.finding is not Finding.CANNOT_TELL:
            await self._end(one, "it is decided")
        elif found is not None:
            await self._enter(one, ExperimentPhase.ASKING, verdict=found.model_dump(mode="json"))

    async def _count_clicks(self, one: Experiment) -> None:
        """Look at the answers whose time for clicks is over. Before a verdict is trusted, A/A is checked."""
        found = await self._look(one)
        if found is None or found.queries == (one.findings.get("verdict") or {}).get("queries"):
            return
        if found.finding is Finding.CANNOT_TELL:
            await self._enter(one, ExperimentPhase.SHOWING, verdict=found.model_dump(mode="json"))
            return
        values = await ending.preferences(self._database, one, self._settings, self._clock.now())
        checks = await asyncio.to_thread(
            judging.checked, _plan_of(one), values, length=len(values), repeated=0, unequal=0
        )
        reason = "it is decided" if checks.passed else ending.mistrusted(checks)
        await self._end(one, reason, is_trusted=checks.passed, checks=checks.model_dump())

    async def _ask_some(self, one: Experiment, *, before: int, twice: bool = False) -> bool:
        """Ask the next few questions with a place below `before`. Returns whether there were any."""
        found = await self._database.read(
            partial(
                experiment_questions.unasked,
                experiment=one,
                limit=self._settings.questions_per_step,
                before=before,
            )
        )
        for stored in found:
            if stored.question is not None and one.experiment_id not in self._warm:
                await self._asker.warm(one, stored.question.text)
                self._warm.add(one.experiment_id)
            await self._asker.ask(one, stored, twice=twice)
        return bool(found)

    async def _look(self, one: Experiment) -> VerdictInfo | None:
        return await ending.look(self._database, one, self._settings, self._clock.now())

    async def _end(self, one: Experiment, reason: str, *, is_trusted: bool = True, **found: Any) -> None:
        self._warm.discard(one.experiment_id)
        await ending.end(
            self._database, one, reason, self._settings, self._clock.now(), is_trusted=is_trusted, **found
        )

    async def _enter(self, one: Experiment, phase: ExperimentPhase, **found: Any) -> None:
        await self._database.write(partial(experiments.enter, one=one, phase=phase, **found))


def switch_of(conn: Connection, experiment: Experiment) -> ModelSwitch | None:
    """Return the switch that keeps both spaces of the experiment in step; None if there is none any more."""
    switch = model_switches.running_of(conn, [experiment.tenant]).get(experiment.tenant)
    if switch is None or not switch.writes_both:
        return None
    return switch if experiment.is_of(switch.old, switch.new) else None


def _plan_of(one: Experiment) -> Plan:
    return judging.plan_of(rule_of(one.rule), PlanInfo.model_validate(one.findings["plan"]))


def _to_free(conn: Connection, now: float) -> list[ModelSwitch]:
    """Return the trials whose experiment has ended and keeps its space no longer."""
    return [one for one in model_switches.running_trials(conn) if _is_free(conn, one, now)]


def _is_free(conn: Connection, trial: ModelSwitch, now: float) -> bool:
    if trial.trial_of is None or trial.phase is SwitchPhase.RETIRING:
        return False
    one = experiments.get(conn, trial.trial_of)
    return one is None or not (one.running or one.keep or now < one.findings.get("kept_until", 0.0))


def _free(conn: Connection, switch: ModelSwitch, now: float) -> str | None:
    """Empty the space of a trial that is still free. Return why it stays; None: nothing is in the way."""
    if switch.trial_of is not None:
        experiments.lock(conn, switch.trial_of)
    present = model_switches.lock(conn, switch.switch_id)
    if present is None or present.trial_of != switch.trial_of or not _is_free(conn, present, now):
        return None
    try:
        orders.retire_trial(conn, switch.tenant, now)
    except NotReady as exc:
        return one_line(exc)
    return None
