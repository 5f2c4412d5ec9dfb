"""Puts what is known of an experiment into the records that people see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import utc
from embedfleet.experiments import judging
from embedfleet.experiments.drawing import Drawn
from embedfleet.experiments.schemas import (
    Checks,
    ExperimentInfo,
    ExperimentRequest,
    ExperimentResults,
    PassageInfo,
    PlanInfo,
    PlannedExperiment,
    QuestionInfo,
    SpaceFigures,
    VerdictInfo,
    rule_of,
)
from embedfleet.model_switching.schemas import SwitchEstimate
from embedfleet.records import arm_sizes, experiment_questions, impressions
from embedfleet.records.arms import Arm
from embedfleet.records.experiment_questions import AskedQuestion, ShownPassage, ShownQuestion
from embedfleet.records.experiments import Experiment
from embedfleet.settings import Settings
from embedfleet.sql.states import QuestionSource

_LONGEST_TEXT = 300


def planned(
    request: ExperimentRequest, drawn: Drawn, to_embed: SwitchEstimate, warnings: Sequence[str]
) -> PlannedExperiment:
    """Return what an experiment would do."""
    plan = judging.first_plan(request.rule, online=request.online)
    return PlannedExperiment(
        tenant=request.tenant,
        model_a=request.model_a,
        model_b=request.model_b,
        source=request.source,
        rule=request.rule,
        plan=judging.plan_info(plan, by_pilot=False),
        questions=len(drawn.questions),
        left_out=drawn.left_out,
        to_embed=to_embed,
        warnings=tuple(warnings),
    )


def info(conn: Connection, one: Experiment) -> ExperimentInfo:
    """Return the experiment without its questions."""
    found = one.findings
    verdict, checks = found.get("verdict"), found.get("checks")
    warnings = list(found.get("warnings", ()))
    if found.get("lacking"):
        warnings.append(
            f"{found['lacking']:,} of {found['documents']:,} documents could not be embedded with "
            f"`{one.other.name}`: what is asked about them counts against it"
        )
    return ExperimentInfo(
        experiment_id=one.experiment_id,
        tenant=one.tenant,
        owner=one.owner,
        model_a=one.arm_a.name,
        model_b=one.arm_b.name,
        source=one.source,
        phase=one.phase,
        rule=rule_of(one.rule),
        plan=PlanInfo.model_validate(found["plan"]),
        checks=None if checks is None else Checks.model_validate(checks),
        verdict=None if verdict is None else VerdictInfo.model_validate(verdict),
        reason=found.get("reason"),
        questions=experiment_questions.count(conn, one),
        asked=_asked(conn, one),
        begun_at=utc(one.begun_at),
        expires_at=utc(one.expires_at),
        ended_at=None if one.ended_at is None else utc(one.ended_at),
        keep=one.keep,
        space_kept_until=_kept_until(one),
        promoted=found.get("promoted"),
        warnings=tuple(warnings),
    )


def _kept_until(one: Experiment) -> datetime | None:
    """Return when the second space is freed; None: at once, or by an order. A comparison without an end has
    none."""
    due = one.findings.get("kept_until")
    if due is None or one.keep or one.ended_at is None or due <= one.ended_at:
        return None
    return utc(due)


def results(conn: Connection, one: Experiment, settings: Settings) -> ExperimentResults:
    """Return all that is known of an experiment. Texts are read now, so a deleted document's are gone."""
    metric = rule_of(one.rule).metric
    asked = experiment_questions.asked(conn, one)
    worst, best = judging.worst_and_best(asked, metric)
    told = partial(_questions, conn, one, metric, {each.place: each for each in asked})
    return ExperimentResults(
        experiment=info(conn, one),
        metrics=tuple(judging.figures(asked)),
        slices=tuple(judging.sliced(asked, metric)),
        overlap=judging.overlap_of(asked),
        spaces=(
            _space(conn, one.arm_a, judging.p95(asked, "a"), settings),
            _space(conn, one.arm_b, judging.p95(asked, "b"), settings),
        ),
        worst=told(worst),
        best=told(best),
    )


def _asked(conn: Connection, one: Experiment) -> int:
    if one.source is QuestionSource.CLICKS:
        return impressions.count_shown(conn, one.experiment_id)
    return experiment_questions.count_asked(conn, one)


def _space(conn: Connection, arm: Arm, p95_seconds: float | None, settings: Settings) -> SpaceFigures:
    size = arm_sizes.size_of(conn, arm)
    costs = [settings.prices.cost(one.model, each.tokens) for one, each in size.spaces.items()]
    known = [cost for cost in costs if cost is not None]
    return SpaceFigures(
        model=arm.name,
        models=tuple(one.model for one in size.spaces),
        documents=size.total.documents,
        chunks=size.total.chunks,
        tokens=size.total.tokens,
        cost=sum(known) if known and len(known) == len(costs) else None,
        currency=settings.prices.currency,
        bytes_per_vector=size.bytes_per_vector,
        p95_seconds=p95_seconds,
    )


def _questions(
    conn: Connection,
    one: Experiment,
    metric: str,
    asked: dict[int, AskedQuestion],
    places: Sequence[int],
) -> tuple[QuestionInfo, ...]:
    shown = experiment_questions.shown(conn, one, places)
    return tuple(_question(each, metric, asked[each.place]) for each in shown)


def _question(shown: ShownQuestion, metric: str, asked: AskedQuestion) -> QuestionInfo:
    return QuestionInfo(
        text=shown.text,
        right=tuple(shown.right),
        score_a=asked.result["a"][metric],
        score_b=asked.result["b"][metric],
        a=tuple(map(_passage, shown.a)),
        b=tuple(map(_passage, shown.b)),
    )


def _passage(shown: ShownPassage) -> PassageInfo:
    text = shown.text
    if text is not None and len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "…"
    return PassageInfo(
        media_id=shown.media_id,
        source=shown.source,
        start=shown.start,
        end=shown.end,
        is_right=shown.is_right,
        text=text,
    )
