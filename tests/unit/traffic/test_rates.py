"""A rate is told from its limit by a test that may be looked at after every request."""

from __future__ import annotations

from functools import partial

import pytest
from guard_sensitivity import bound_says, chance_within, guard_says, requests_until

from embedfleet.traffic.rates import FALSE_CLIMB, FALSE_STOP, FEWEST_REQUESTS, Observed, Side


def test_a_rate_at_its_limit_is_hardly_ever_called_above_it_though_every_request_is_looked_at() -> None:
    chance = chance_within(partial(guard_says, Side.ABOVE, limit=0.05), 0.05, 400)
    assert 0.0001 < chance <= FALSE_STOP == 0.001, "and the test wastes no more than it must"


def test_a_rate_at_its_limit_is_seldom_called_below_it_though_every_request_is_looked_at() -> None:
    chance = chance_within(partial(guard_says, Side.BELOW, limit=0.05), 0.05, 400)
    assert 0.005 < chance <= FALSE_CLIMB == 0.05


def test_a_usual_bound_is_wrong_far_more_often_than_it_says_if_every_request_is_looked_at() -> None:
    assert chance_within(partial(bound_says, 0.95, limit=0.05), 0.05, 200) > 3 * 0.05


def test_a_rate_far_above_is_found_out_at_once_and_one_far_below_soon() -> None:
    assert chance_within(partial(guard_says, Side.ABOVE), 0.3, 40) > 0.99
    assert chance_within(partial(guard_says, Side.BELOW), 0.001, 1_000) > 0.95
    assert requests_until(partial(guard_says, Side.BELOW), 0.0, most=400, quantiles=(0.5, 1.0)) == [330, 330]


@pytest.mark.parametrize(
    ("bad", "total", "side"),
    [
        (0, 0, Side.UNKNOWN),
        (3, 3, Side.UNKNOWN),  # three tries of one broken document
        (FEWEST_REQUESTS - 1, FEWEST_REQUESTS - 1, Side.UNKNOWN),
        (FEWEST_REQUESTS, FEWEST_REQUESTS, Side.ABOVE),
        (1, 50, Side.UNKNOWN),  # 2% is twice the limit, but one request tells nothing
        (10, 50, Side.ABOVE),
        (0, 329, Side.UNKNOWN),
        (0, 330, Side.BELOW),
        (100, 10_000, Side.UNKNOWN),  # at the limit exactly
        (10**6, 10**9, Side.BELOW),
        (10**8, 10**9, Side.ABOVE),
    ],
)
def test_what_requests_say_about_a_limit_of_one_percent(bad: int, total: int, side: Side) -> None:
    assert Observed(bad, total, 0.01).side is side


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.2, 0.9])
@pytest.mark.parametrize(("bad", "total"), [(0, 0), (1, 1), (3, 100), (0, 10_000)])
def test_the_number_of_further_good_requests_is_enough_and_one_less_is_not(
    bad: int, total: int, limit: float
) -> None:
    needed = Observed(bad, total, limit).further_good_requests
    assert Observed(bad, total + needed, limit).side is Side.BELOW
    assert needed == 0 or Observed(bad, total + needed - 1, limit).side is not Side.BELOW


def test_it_says_the_rate_and_the_limit() -> None:
    assert str(Observed(9, 40, 0.01)) == "9 of 40 (22.5%, limit 1%)"
    assert str(Observed(0, 0, 0.005)) == "0 of 0 (limit 0.5%)"
