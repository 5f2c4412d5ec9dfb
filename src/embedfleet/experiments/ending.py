"""Looks at an experiment, ends it with its verdict, and says how long its second space is kept."""

from __future__ import annotations

from functools import partial
from typing import Any

from loguru import logger
from sqlalchemy import Connection

from embedfleet.evaluation.interleaving import Team, preference
from embedfleet.evaluation.verdicts import Finding
from embedfleet.experiments import judging
from embedfleet.experiments.judging import Pilot
from embedfleet.experiments.metrics import ComparedMetric
from embedfleet.experiments.schemas import Checks, PlanInfo, VerdictInfo, rule_of
from embedfleet.records import audit, experiment_questions, experiments, impressions
from embedfleet.records.arms import Arm
from embedfleet.records.audit import Deed
from embedfleet.records.experiments import Experiment
from embedfleet.settings import ExperimentSettings
from embedfleet.sql.database import Database
from embedfleet.sql.states import QuestionSource

ACTOR = "experiment"
"""The actor in the audit log of an experiment that ends by itself."""

_SECONDS_PER_DAY = 86_400.0
_TEAMS = {"a": Team.A, "b": Team.B}


async def look(
    database: Database, one: Experiment, settings: ExperimentSettings, now: float
) -> VerdictInfo | None:
    """Return what is known by now; None: nothing that counts was asked or clicked yet."""
    rule = rule_of(one.rule)
    a, b = one.arm_a.name, one.arm_b.name
    plan = judging.plan_of(rule, PlanInfo.model_validate(one.findings["plan"]))
    if one.source is QuestionSource.CLICKS:
        values = await preferences(database, one, settings, now)
        return judging.judge(plan, values, a, b) if values else None
    asked = await database.read(partial(experiment_questions.asked, experiment=one))
    metric = ComparedMetric.parse(rule.metric)
    if metric.metric is None:
        return judging.only_alike(asked, metric.depth) if asked else None
    first = Pilot(**one.findings["pilot"]).first_counted
    values = [judging.difference_of(each.result, rule.metric) for each in asked if each.place >= first]
    return judging.judge(plan, values, a, b) if values else None


async def preferences(
    database: Database, one: Experiment, settings: ExperimentSettings, now: float
) -> list[float]:
    """Return what each answer with a click says: 1 for B, -1 for A, 0 for neither.

    An answer counts when its time for clicks is over, so that what was looked at does not change any more.
    """
    found = await database.read(
        partial(
            impressions.clicked,
            experiment_id=one.experiment_id,
            shown_before=now - settings.feedback_seconds,
        )
    )
    return [preference([_TEAMS.get(team) for team in teams], clicks) for teams, clicks in found]


async def end(
    database: Database,
    one: Experiment,
    reason: str,
    settings: ExperimentSettings,
    now: float,
    *,
    actor: str = ACTOR,
    is_trusted: bool = True,
    **found: Any,
) -> bool:
    """End the experiment with what is known by now, and note it in the audit log.

    Returns False if it had ended before. With `is_trusted` False there is no verdict. The second space is
    kept for some days, to be promoted, unless the tenant's own arm is better or nothing is known.
    """
    verdict = await look(database, one, settings, now) if is_trusted else None
    keeps = verdict is not None and verdict.finding is not better_of(one, one.own)
    kept_until = now + settings.keep_days * _SECONDS_PER_DAY if keeps else now
    told = "no verdict" if verdict is None else verdict.sentence

    def end_experiment(conn: Connection) -> bool:
        ended = experiments.end(
            conn,
            one,
            now,
            reason=reason,
            verdict=None if verdict is None else verdict.model_dump(mode="json"),
            kept_until=kept_until,
            **found,
        )
        if ended:
            details = {
                "experiment_id": one.experiment_id,
                "owner": one.owner,
                "reason": reason,
                "verdict": told,
            }
            audit.add(conn, Deed(actor, "experiment.end", one.tenant, details), now)
        return ended

    if not await database.write(end_experiment):
        return False
    logger.bind(tenant=one.tenant).info(
        "experiment {} of {} has ended, as {}: {}", one.experiment_id, one.owner, reason, told
    )
    return True


def better_of(one: Experiment, arm: Arm) -> Finding:
    """Return the finding that this arm is the better one."""
    return Finding.A_BETTER if arm == one.arm_a else Finding.B_BETTER


def mistrusted(checks: Checks) -> str:
    """Say why a comparison that fails its A/A check has no verdict."""
    if checks.unequal and checks.alarms <= checks.allowed:
        return (
            f"the A/A check failed: A answered {checks.unequal:,} of {checks.repeated:,} questions "
            "otherwise when it was asked again, so differences mean nothing; look whether documents come in, "
            "or whether the index is damaged"
        )
    return (
        f"the A/A check failed: {checks.alarms:,} of {checks.experiments:,} comparisons of a model with "
        f"itself found a difference, and {checks.allowed:,} may, so a difference would mean nothing"
    )
