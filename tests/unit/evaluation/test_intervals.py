from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.intervals import Interval, paired_interval, wilson

TRIALS = 4_000


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (9, 10), (50, 50), (130, 250)])
def test_the_interval_of_a_proportion_is_that_of_scipy(hits: int, trials: int) -> None:
    theirs = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    ours = wilson(hits, trials)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_no_trial_says_nothing_of_a_proportion() -> None:
    assert wilson(0, 0) == Interval(0.0, 1.0)
    with pytest.raises(InvalidRequest, match="3 hits of 2 trials"):
        wilson(3, 2)


@pytest.mark.parametrize("queries", [4, 8, 30, 250, 3_000])
@pytest.mark.parametrize("confidence", [0.95, 0.998])
def test_the_interval_of_differences_is_students_after_the_added_observations(
    queries: int, confidence: float
) -> None:
    x = np.random.default_rng(1).uniform(-0.5, 0.7, queries)
    observations = queries + 2
    mean = x.sum() / observations
    error = np.sqrt(((x**2).sum() + 1) / observations - mean**2) / np.sqrt(observations)
    half = stats.t.ppf(0.5 + confidence / 2, queries + 1) * error
    ours = paired_interval(x, confidence)
    assert (ours.low, ours.high) == pytest.approx((max(-1, mean - half), min(1, mean + half)), rel=0.01)


@pytest.mark.parametrize(("b_only", "a_only"), [(0.0, 0.0), (0.01, 0.01), (0.02, 0.07), (0.1, 0.15)])
@pytest.mark.parametrize("queries", [50, 250])
def test_it_holds_the_true_difference_in_95_of_100_samples(
    queries: int, b_only: float, a_only: float
) -> None:
    """Also where most pairs are equal, and where all of them are."""
    rng = np.random.default_rng(4)
    counts = rng.multinomial(queries, [b_only, a_only, 1 - b_only - a_only], TRIALS)
    held = 0
    for b_better, a_better, same in np.unique(counts, axis=0):
        interval = paired_interval([1.0] * b_better + [-1.0] * a_better + [0.0] * same)
        times = int((counts == (b_better, a_better, same)).all(axis=1).sum())
        held += times * (interval.low <= b_only - a_only <= interval.high)
    assert held / TRIALS >= 0.94


def test_equal_pairs_leave_a_width() -> None:
    """Student's interval alone would say that the models are the same within 0."""
    interval = paired_interval([0.0] * 250)
    assert -interval.low == interval.high == pytest.approx(0.0078, abs=0.0002)
    assert paired_interval([]) == Interval(-1.0, 1.0)
    assert paired_interval([0.2]).high == 1.0
