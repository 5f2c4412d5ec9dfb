"""Latencies in classes: every value in one class, quantiles within the stated error."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from embedfleet.traffic import latencies

SECONDS = st.floats(1e-5, 1_000)


@given(SECONDS)
def test_a_latency_is_within_the_bounds_of_its_class(seconds: float) -> None:
    lower, upper = latencies.bounds_seconds(latencies.class_of(seconds))
    # Rounding moves a value that is a bound itself.
    assert lower * (1 - 1e-9) <= seconds <= upper * (1 + 1e-9)
    assert upper / lower <= 1.05 + 1e-9


def test_the_first_and_the_last_class_take_what_is_beyond_them() -> None:
    assert latencies.class_of(0.0) == latencies.class_of(-1.0) == 0
    assert latencies.class_of(1e9) == latencies.LAST_CLASS
    assert latencies.bounds_seconds(latencies.LAST_CLASS)[1] >= 1_200


@given(st.lists(SECONDS, min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_two_and_a_half_percent(observed: list[float], fraction: float) -> None:
    exact = sorted(observed)[math.ceil(fraction * len(observed)) - 1]
    found = latencies.quantile_seconds(Counter(map(latencies.class_of, observed)), fraction)
    assert found is not None
    assert abs(found / exact - 1) <= 0.025


def test_nothing_observed_has_no_quantile() -> None:
    assert latencies.quantile_seconds({}, 0.5) is None


@given(st.lists(SECONDS, max_size=60), SECONDS)
def test_only_what_is_certainly_slower_counts_as_slower(observed: list[float], limit: float) -> None:
    counted = Counter(map(latencies.class_of, observed))
    slower = latencies.number_above(counted, limit)
    assert slower <= sum(seconds > limit for seconds in observed)
    assert slower >= sum(seconds > limit * 1.06 for seconds in observed)
    assert latencies.observations(counted) == len(observed)
