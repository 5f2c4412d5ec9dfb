"""Simulated experiments: how often the stopping rule raises a false alarm, and finds a true difference."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.confidence_sequence import ConfidenceSequence
from embedfleet.evaluation.interleaving import preference, team_draft
from embedfleet.evaluation.intervals import Interval
from embedfleet.evaluation.planning import (
    DEFAULT_DEVIATION,
    MINIMAL_QUERIES,
    Plan,
    pilot_deviation,
    plan,
    queries_of_one_look,
)

EXPERIMENTS = 1_000
LOOKS = 600

Differences = NDArray[np.float64]


def hits(rng: np.random.Generator, queries: int, b_only: float, a_only: float) -> Differences:
    """Differences of a 0/1 metric: mostly 0, as both models find the answer or both miss it."""
    drawn = rng.random((EXPERIMENTS, queries))
    return np.select([drawn < b_only, drawn < b_only + a_only], [1.0, -1.0], 0.0)


def gradual(rng: np.random.Generator, queries: int, gain: float = 0.0) -> Differences:
    """Differences as nDCG has them: half are 0, the others of any size.

    Both scores are drawn from the same values, and B gets a better draw for a share of the questions.
    """
    a, b = rng.beta(0.8, 0.6, (2, EXPERIMENTS, queries))
    better = np.maximum(b, rng.beta(0.8, 0.6, (EXPERIMENTS, queries)))
    b = np.where(rng.random((EXPERIMENTS, queries)) < gain, better, b)
    return np.where(rng.random((EXPERIMENTS, queries)) < 0.5, 0.0, b - a)


def out_at_some_look(
    sequence: ConfidenceSequence, differences: Differences, mean: float = 0.0
) -> NDArray[np.bool_]:
    """Whether a mean is excluded, from either side, at any of the looks after each query."""
    above = sequence.log_capitals(differences, mean)
    below = sequence.log_capitals(-differences, -mean)
    return np.asarray((np.maximum(above, below) >= sequence.log_threshold).any(axis=-1))


ALIKE = {
    "0/1, few differ": lambda rng: hits(rng, LOOKS, 0.02, 0.02),
    "0/1, many differ": lambda rng: hits(rng, LOOKS, 0.15, 0.15),
    "like nDCG": lambda rng: gradual(rng, LOOKS),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_of_a_thousand_a_a_experiments_at_most_a_twentieth_raises_an_alarm(kind: str) -> None:
    """Although each is looked at after every one of its queries."""
    alarms = int(out_at_some_look(plan(0.05).sequence(), ALIKE[kind](np.random.default_rng(18))).sum())
    print(f"{kind}: {alarms} false alarms in {EXPERIMENTS:,} A/A experiments of {LOOKS} looks")
    assert alarms <= 0.05 * EXPERIMENTS


def test_an_interval_of_one_look_would_raise_far_more_alarms() -> None:
    """What the rule is for: the interval of one look, looked at after every query from the 30th on."""
    x = hits(np.random.default_rng(18), LOOKS, 0.15, 0.15)
    number = np.arange(1, LOOKS + 1)
    mean = x.cumsum(axis=-1) / number
    error = np.sqrt((np.square(x).cumsum(axis=-1) / number - mean**2) / number)
    alarms = (np.abs(mean) > 1.96 * error)[:, 30:].any(axis=-1).sum()
    assert alarms > 0.2 * EXPERIMENTS


@pytest.mark.parametrize("mean", [-0.3, 0.1, 0.6])
def test_a_true_mean_that_is_not_0_stays_in_the_interval_at_all_looks(mean: float) -> None:
    x = hits(np.random.default_rng(3), LOOKS, (0.7 + mean) / 2, (0.7 - mean) / 2)
    assert out_at_some_look(plan(0.05).sequence(), x, mean).sum() <= 0.05 * EXPERIMENTS


@pytest.mark.parametrize(
    ("b_only", "a_only", "power"), [(0.10, 0.05, 0.8), (0.05, 0.0, 0.8), (0.25, 0.15, 0.8), (0.25, 0.15, 0.9)]
)
def test_a_difference_of_hits_is_found_as_often_as_promised(
    b_only: float, a_only: float, power: float
) -> None:
    difference = b_only - a_only
    planned = plan(difference, deviation=math.sqrt(b_only + a_only - difference**2), power=power)
    assert found_share(planned, hits(np.random.default_rng(5), planned.queries, b_only, a_only)) >= power


def test_a_difference_of_ndcg_is_found_as_often_as_promised_by_the_deviation_of_a_pilot() -> None:
    rng = np.random.default_rng(7)
    large = gradual(rng, 2_000, gain=0.6)
    planned = plan(float(large.mean()), deviation=pilot_deviation(large[0, :100]))
    assert found_share(planned, gradual(rng, planned.queries, gain=0.6)) >= planned.power


def found_share(planned: Plan, differences: Differences) -> float:
    """The share of experiments that find "B better", and none of these claims "A better" first."""
    sequence = planned.sequence()
    at_look = sequence.log_capitals(differences, 0.0) >= sequence.log_threshold
    found = at_look.any(axis=-1)
    wrong = (sequence.log_capitals(-differences, 0.0) >= sequence.log_threshold).any(axis=-1)
    looks = np.where(found, at_look.argmax(axis=-1) + 1, planned.queries)
    print(
        f"a difference of {planned.smallest_difference:.3f} (deviation {planned.deviation:.2f}) is found in "
        f"{found.mean():.1%} of {EXPERIMENTS:,} runs of {planned.queries:,} queries, {planned.power:.0%} are "
        f"promised; after {looks.mean():,.0f} on average"
    )
    assert wrong.mean() <= 0.025
    return float(found.mean())


def test_equal_models_are_called_the_same_as_often_as_the_plan_says() -> None:
    planned = plan(0.1, deviation=math.sqrt(0.4))
    for more, least in ((1.0, 0.5), (1.5, 0.85)):
        counts = np.random.default_rng(8).multinomial(int(more * planned.queries), [0.2, 0.2, 0.6], 200)
        same = 0
        for b_only, a_only, ties in counts:
            sample = np.repeat([1.0, -1.0, 0.0], [b_only, a_only, ties])
            same += planned.sequence().interval(sample).is_within(0.1)
        print(f"equal models are called the same in {same / 2:.0f}% of runs of {sum(counts[0]):,} queries")
        assert same >= 200 * least


def clicks(rng: Random, impressions: int, liked: float) -> Differences:
    """What the impressions of an interleaving say. Of a result of B, a share `liked` is clicked, of A 0.3."""
    outcome = []
    a, b = [f"a{number}" for number in range(5)], [f"b{number}" for number in range(5)]
    for _ in range(impressions):
        places = team_draft(a, b, length=4, rng=rng)
        chances = [(0.3 if str(place.item).startswith("a") else liked) for place in places]
        clicked = [number for number, chance in enumerate(chances) if rng.random() < chance / (number + 1)]
        outcome.append(preference([place.team for place in places], clicked))
    return np.array(outcome)


def test_interleaving_two_models_of_which_no_one_prefers_one_raises_few_alarms() -> None:
    """The clicks fall with the place, so a draft that favours a team would be seen."""
    pool = clicks(Random(18), 20_000, liked=0.3)
    drawn = np.random.default_rng(18).choice(pool, (EXPERIMENTS, LOOKS))
    assert abs(pool.mean()) < 3 * pool.std() / math.sqrt(pool.size)
    alarms = int(out_at_some_look(plan(0.1).sequence(), drawn).sum())
    print(f"interleaving: {alarms} false alarms in {EXPERIMENTS:,} A/A experiments of {LOOKS} looks")
    assert alarms <= 0.05 * EXPERIMENTS


def test_interleaving_finds_a_model_that_is_preferred_as_often_as_promised() -> None:
    pool = clicks(Random(5), 20_000, liked=0.4)
    planned = plan(float(pool.mean()), deviation=float(pool.std()))
    drawn = np.random.default_rng(5).choice(pool, (EXPERIMENTS, planned.queries))
    assert found_share(planned, drawn) >= planned.power


def test_the_interval_is_what_the_capital_excludes_and_does_not_depend_on_the_order() -> None:
    sequence = plan(0.05).sequence()
    x = gradual(np.random.default_rng(11), 400)[0] * 0.8 + 0.1
    interval = sequence.interval(x)
    for bound, sign in ((interval.low, 1), (interval.high, -1)):
        capital = sequence.log_capitals(sign * x, sign * bound)[-1]
        assert capital == pytest.approx(sequence.log_threshold, abs=1e-3)
    assert interval.low < x.mean() < interval.high
    again = sequence.interval(x[::-1])
    assert (again.low, again.high) == pytest.approx((interval.low, interval.high))


def test_no_query_says_nothing_and_queries_that_are_all_equal_say_little_by_little_more() -> None:
    sequence = plan(0.05).sequence()
    assert sequence.interval([]) == Interval(-1.0, 1.0)
    highs = [sequence.interval([0.0] * queries).high for queries in (10, 100, 1_000)]
    assert highs == sorted(highs, reverse=True)
    assert highs[-1] == pytest.approx(0.007, abs=0.002)
    assert sequence.interval([1.0] * 1_000).high == 1.0


def test_a_difference_that_is_not_bounded_is_refused() -> None:
    for wrong in ([1.5], [float("nan")]):
        with pytest.raises(InvalidRequest, match="scores from 0 to 1"):
            plan(0.05).sequence().interval(wrong)


def test_a_run_needs_more_queries_for_a_smaller_difference_and_at_least_250() -> None:
    assert plan(0.5).queries == queries_of_one_look(0.5) == MINIMAL_QUERIES
    assert plan(0.02).queries > plan(0.05).queries > plan(0.05, deviation=0.3).queries
    assert plan(0.05, power=0.95).queries > plan(0.05).queries > queries_of_one_look(0.05)


@pytest.mark.parametrize("wrong", [{"smallest_difference": 0.0}, {"deviation": 2.0}, {"power": 1.0}])
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match=r"difference|deviation|power"):
        plan(wrong.pop("smallest_difference", 0.05), **wrong)


def test_a_pilot_that_is_quiet_or_missing_does_not_make_the_run_too_short() -> None:
    assert pilot_deviation([]) == DEFAULT_DEVIATION
    assert pilot_deviation([0.0] * 50) > 0.1
    x = gradual(np.random.default_rng(2), 200)[0]
    assert x.std() < pilot_deviation(x) < 1.2 * x.std()
