"""What the measured questions of an experiment say. It is pure.

A question's measurement is a mapping: `a` and `b` have the scores by metric, `overlap` is the share of common
hits, `seconds_a` and `seconds_b` what the searches took, `chars` is the length of the question. No text is in
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embedfleet.evaluation import aa_check, planning
from embedfleet.evaluation.comparisons import PairedScore, compare, differences, extremes, slices
from embedfleet.evaluation.intervals import CONFIDENCE, paired_interval
from embedfleet.evaluation.planning import DEFAULT_DEVIATION, Plan
from embedfleet.evaluation.questions import Question
from embedfleet.evaluation.verdicts import Finding, Verdict, verdict
from embedfleet.experiments.schemas import Checks, ExperimentRule, Figures, PlanInfo, VerdictInfo
from embedfleet.records.experiment_questions import AskedQuestion

CLICK_DEVIATION = 0.7
"""The deviation of preferences, of which each is -1, 0 or 1: about half of the people prefer neither."""
MOST_OF_PLAN = 1.5
"""To show that two models are the same takes up to this many times the planned questions."""
FEWEST_WITH_PILOT = 6
"""With fewer times the pilot's questions, none is left over for a pilot: all of them count."""
# A search may give another answer to the same question if documents came in between.
_MOST_UNEQUAL = 0.05
_SEED = 1


@dataclass(frozen=True, slots=True)
class Pilot:
    """The first questions of an experiment.

    They say how much the scores differ, and so how many questions are needed. If they are `set_aside`, they
    do not count in the verdict: its bets must not be chosen by what they are placed on.
    """

    questions: int
    set_aside: bool

    @property
    def first_counted(self) -> int:
        """The place of the first question that the verdict counts."""
        return self.questions if self.set_aside else 0

    @classmethod
    def of(cls, questions: int, wanted: int) -> Pilot:
        """Return the pilot of an experiment that has this number of questions."""
        return cls(min(wanted, questions), set_aside=questions >= FEWEST_WITH_PILOT * wanted)


def most_places(pilot: Pilot, plan: Plan, *, has_verdict: bool) -> int:
    """Return the place before which the questions are asked. A metric without a verdict needs fewer."""
    asked = round(MOST_OF_PLAN * plan.queries) if has_verdict else planning.MINIMAL_QUERIES
    return pilot.first_counted + asked


def first_plan(rule: ExperimentRule, *, online: bool) -> Plan:
    """Plan an experiment before anything was asked, with a cautious deviation."""
    deviation = CLICK_DEVIATION if online else DEFAULT_DEVIATION
    return planning.plan(rule.smallest_difference, deviation=deviation, power=rule.power)


def plan_by(rule: ExperimentRule, pilot: Sequence[float]) -> Plan:
    """Plan an experiment by the differences of a pilot that is set aside."""
    deviation = planning.pilot_deviation(pilot)
    return planning.plan(rule.smallest_difference, deviation=deviation, power=rule.power)


def plan_of(rule: ExperimentRule, kept: PlanInfo) -> Plan:
    """Return the plan that is kept with the experiment."""
    return planning.plan(rule.smallest_difference, deviation=kept.deviation, power=rule.power)


def plan_info(plan: Plan, *, by_pilot: bool) -> PlanInfo:
    """Return the part of a plan that is kept and told."""
    return PlanInfo(queries=plan.queries, deviation=plan.deviation, by_pilot=by_pilot)


def checked(plan: Plan, values: Sequence[float], *, length: int, repeated: int, unequal: int) -> Checks:
    """Check that a comparison of a model with itself would find nothing: the A/A check.

    The comparisons are as long as this one can get, `length` questions. A thousand of them take seconds.
    """
    alarms = aa_check.simulate(replace(plan, queries=max(1, length)), values, seed=_SEED)
    allowed = int(alarms.allowed * alarms.experiments)
    return Checks(
        repeated=repeated,
        unequal=unequal,
        experiments=alarms.experiments,
        alarms=alarms.alarms,
        allowed=allowed,
        passed=alarms.passed and unequal <= _MOST_UNEQUAL * repeated,
    )


def judge(plan: Plan, values: Sequence[float], a: str, b: str) -> VerdictInfo:
    """Look at the differences so far, B minus A. Looking often does no harm."""
    interval = plan.sequence().interval(values)
    mean = float(np.mean(values)) if len(values) else 0.0
    return _told(
        verdict(mean, interval, queries=len(values), smallest_difference=plan.smallest_difference, a=a, b=b)
    )


def _told(found: Verdict) -> VerdictInfo:
    return VerdictInfo(
        finding=found.finding,
        sentence=found.sentence,
        difference=found.difference,
        low=found.interval.low,
        high=found.interval.high,
        confidence=found.interval.confidence,
        queries=found.queries,
        more_queries=found.more_queries,
    )


def paired(asked: Sequence[AskedQuestion], metric: str) -> list[PairedScore]:
    """Return the scores of both models by a metric. Of a question, its length is known, and not its text."""
    return [
        PairedScore(
            Question(str(one.place), "x" * int(one.result["chars"]), (), one.language, one.content_type),
            one.result["a"][metric],
            one.result["b"][metric],
        )
        for one in asked
        if metric in one.result["a"]
    ]


def figures(asked: Sequence[AskedQuestion]) -> list[Figures]:
    """Return both models by every metric that was measured, the deciding one first."""
    names = list(asked[0].result["a"]) if asked else []
    return [_figures("metric", name, paired(asked, name), CONFIDENCE) for name in names]


def sliced(asked: Sequence[AskedQuestion], metric: str) -> list[Figures]:
    """Return both models by the kinds of the questions. All intervals hold together."""
    return [
        Figures(
            name=one.name,
            value=one.value,
            queries=one.comparison.queries,
            a=one.comparison.mean_a,
            b=one.comparison.mean_b,
            difference=one.comparison.difference,
            low=one.comparison.interval.low,
            high=one.comparison.interval.high,
        )
        for one in slices(paired(asked, metric))
    ]


def worst_and_best(asked: Sequence[AskedQuestion], metric: str) -> tuple[list[int], list[int]]:
    """Return the places of the questions on which B loses most and gains most."""
    worst, best = extremes(paired(asked, metric))
    return (
        [int(one.question.question_id) for one in worst],
        [int(one.question.question_id) for one in best],
    )


def overlap_of(asked: Sequence[AskedQuestion]) -> float | None:
    """Return the mean share of hits that both models have in common; None if nothing was asked."""
    return float(np.mean([one.result["overlap"] for one in asked])) if asked else None


def p95(asked: Sequence[AskedQuestion], team: str) -> float | None:
    """Return the p95 of the searches of a model in seconds; None if nothing was asked."""
    return float(np.percentile([one.result[f"seconds_{team}"] for one in asked], 95)) if asked else None


def only_alike(asked: Sequence[AskedQuestion], depth: int) -> VerdictInfo:
    """Say how alike both models are. That is no verdict: without right answers nothing is better."""
    values = [one.result["overlap"] for one in asked]
    # An overlap is from 0 to 1, so it is a difference from nothing.
    interval = paired_interval(values)
    return VerdictInfo(
        finding=Finding.CANNOT_TELL,
        sentence=f"both models have {float(np.mean(values)):.1%} of their first {depth} hits in common "
        f"(95% {max(0.0, interval.low):.1%} to {interval.high:.1%}): that says how alike they are, and not "
        "which is better",
        difference=0.0,
        low=-1.0,
        high=1.0,
        confidence=interval.confidence,
        queries=len(values),
        more_queries=0,
    )


def difference_of(result: Mapping[str, Any], metric: str) -> float:
    """Return B minus A of a measured question."""
    return float(result["b"][metric] - result["a"][metric])


def _figures(name: str, value: str, pairs: Sequence[PairedScore], confidence: float) -> Figures:
    found = compare(pairs, paired_interval(differences(pairs), confidence))
    return Figures(
        name=name,
        value=value,
        queries=found.queries,
        a=found.mean_a,
        b=found.mean_b,
        difference=found.difference,
        low=found.interval.low,
        high=found.interval.high,
    )
