"""The arithmetic of estimates: sums, money, time and budgets."""

from __future__ import annotations

from typing import Any

import pytest

from embedfleet.lifecycle.estimates import Budget, Pace, pace_of_past, summed
from embedfleet.queue_schemas import DocumentEstimate, EstimateState, RateSource


def document(state: EstimateState = EstimateState.EMBEDS, **more: Any) -> DocumentEstimate:
    return DocumentEstimate(media_id="1", model="stub", state=state, **more)


def test_sums_are_of_what_embeds_and_money_is_of_what_is_charged() -> None:
    total = summed(
        [
            document(chars=10, tokens=4, cost=0.5, chunks=3, chunks_stored=1, chunks_cached=1,
                     chunks_to_embed=1, tokens_to_embed=2),
            document(chars=20, tokens=6, cost=0.25, chunks=1, chunks_stored=0, chunks_cached=0,
                     chunks_to_embed=1, tokens_to_embed=8),
            document(EstimateState.UNCHANGED, chars=100),
            document(EstimateState.UNREADABLE, tokens=1, cost=0.25, error="no chunk"),
        ],
        currency="EUR",
        pace=Pace(4.0, RateSource.PAST, seconds_before=1.5),
    )  # fmt: skip
    assert (total.documents, total.embeds, total.unchanged, total.unreadable) == (4, 2, 1, 1)
    assert (total.chars, total.tokens, total.cost, total.currency) == (30, 11, 1.0, "EUR")
    assert (total.chunks, total.chunks_stored, total.chunks_cached, total.chunks_to_embed) == (4, 1, 1, 2)
    assert (total.tokens_to_embed, total.seconds, total.seconds_before) == (10, 2.5, 1.5)


def test_without_a_price_there_is_no_sum_of_money_but_what_costs_nothing_needs_none() -> None:
    unpriced = [document(tokens=1, cost=None), document(tokens=1, cost=1.0)]
    assert summed(unpriced, currency="EUR", pace=None).cost is None
    unchanged = [document(EstimateState.UNCHANGED), document(tokens=1, cost=1.0)]
    assert summed(unchanged, currency="EUR", pace=None).cost == 1.0
    assert summed([], currency="EUR", pace=None).seconds is None


@pytest.mark.parametrize(
    ("jobs", "rate"),
    [
        ([(0.0, 10.0, 100)], 10.0),
        ([(0.0, 10.0, 100), (5.0, 10.0, 100)], 20.0),  # side by side
        ([(0.0, 10.0, 100), (990.0, 1000.0, 100)], 10.0),  # a pause between them does not count
        ([(0.0, 10.0, 50), (2.0, 3.0, 50), (8.0, 12.0, 20)], 10.0),  # one inside another, one past it
    ],
)
def test_the_past_rate_is_of_the_time_in_which_anything_was_done(
    jobs: list[tuple[float, float, int]], rate: float
) -> None:
    assert pace_of_past(jobs) == Pace(rate, RateSource.PAST)


@pytest.mark.parametrize("jobs", [[], [(1.0, 1.0, 5)], [(1.0, 2.0, 0)]])
def test_without_time_or_tokens_there_is_no_rate(jobs: list[tuple[float, float, int]]) -> None:
    assert pace_of_past(jobs) is None


def test_a_budget_allows_what_fits_to_the_last_and_nothing_more() -> None:
    budget = Budget(1.0)
    assert [budget.take("a", cost) for cost in (0.5, 0.6, 0.5, 0.0)] == [True, False, True, True]
    assert not budget.take("b", 0.01)
    assert (budget.spent, budget.stopped_at, budget.next_cost) == (1.0, "b", 0.01)
    assert not Budget(1.0).take("c", None)
