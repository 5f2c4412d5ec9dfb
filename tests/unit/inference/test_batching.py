"""The policy of `plan_batches`, and that its groupings cannot be beaten."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest
from embedfleet.inference.batching import CALL_TOKENS, plan_batches, plan_in_order, soonest_first

LENGTHS = st.lists(st.integers(0, 300), max_size=60)


def as_lists(groups: list[NDArray[np.int64]]) -> list[list[int]]:
    return [group.tolist() for group in groups]


@pytest.mark.parametrize(
    ("lengths", "budget_tokens", "groups"),
    [
        ([], 100, []),
        ([7], 100, [[0]]),
        ([500], 100, [[0]]),
        ([0, 0, 0], 100, [[0, 1, 2]]),
        ([50, 50, 50], 100, [[1, 2], [0]]),
        ([250, 10, 250, 10], 1000, [[0, 2], [1, 3]]),
        ([20, 10, 20, 10], 1000, [[1, 3, 0, 2]]),
    ],
    ids=["none", "one", "over the budget", "empty texts", "full", "lengths apart", "lengths alike"],
)
def test_texts_are_grouped_by_similar_length(
    lengths: list[int], budget_tokens: int, groups: list[list[int]]
) -> None:
    assert as_lists(plan_batches(np.array(lengths, dtype=np.int64), budget_tokens=budget_tokens)) == groups


@given(lengths=LENGTHS, budget=st.integers(1, 2048), max_texts=st.integers(1, 20))
def test_every_position_is_in_exactly_one_group(lengths: list[int], budget: int, max_texts: int) -> None:
    groups = plan_batches(np.array(lengths, dtype=np.int64), budget_tokens=budget, max_texts=max_texts)
    assert sorted(position for group in groups for position in group.tolist()) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=st.integers(1, 2048), max_texts=st.integers(1, 20))
def test_a_group_of_several_keeps_within_the_budget(lengths: list[int], budget: int, max_texts: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    for group in plan_batches(array, budget_tokens=budget, max_texts=max_texts):
        assert 1 <= len(group) <= max_texts
        assert len(group) == 1 or len(group) * max(array[group].max(), 1) <= budget


@given(lengths=LENGTHS, budget=st.integers(1, 2048))
def test_longer_texts_come_before_shorter_ones(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    longest = [int(array[group].max()) for group in plan_batches(array, budget_tokens=budget)]
    assert longest == sorted(longest, reverse=True)


@given(
    lengths=st.lists(st.integers(0, 200), min_size=1, max_size=6),
    budget=st.integers(1, 500),
    max_texts=st.integers(1, 4),
)
def test_no_other_grouping_is_cheaper(lengths: list[int], budget: int, max_texts: int) -> None:
    planned = plan_batches(np.array(lengths, dtype=np.int64), budget_tokens=budget, max_texts=max_texts)
    allowed = (
        groups
        for groups in partitions(list(range(len(lengths))))
        if all(fits([lengths[p] for p in group], budget, max_texts) for group in groups)
    )
    assert cost(as_lists(planned), lengths) == min(cost(groups, lengths) for groups in allowed)


def test_negative_lengths_and_empty_budgets_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="negative"):
        plan_batches(np.array([3, -1]), budget_tokens=10)
    with pytest.raises(InvalidRequest, match="budget_tokens"):
        plan_batches(np.array([3]), budget_tokens=0)
    with pytest.raises(InvalidRequest, match="max_texts"):
        plan_batches(np.array([3]), budget_tokens=10, max_texts=0)


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """Every way to split `items` into groups."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for smaller in partitions(rest):
        for i in range(len(smaller)):
            yield [*smaller[:i], [first, *smaller[i]], *smaller[i + 1 :]]
        yield [[first], *smaller]


def fits(lengths: list[int], budget: int, max_texts: int) -> bool:
    return len(lengths) == 1 or (len(lengths) <= max_texts and len(lengths) * max(1, *lengths) <= budget)


def cost(groups: list[list[int]], lengths: list[int]) -> int:
    return sum(len(group) * max(1, *(lengths[p] for p in group)) + CALL_TOKENS for group in groups)


# --- without padding, and in which order -----------------------------------------------------------


@given(lengths=LENGTHS, budget=st.integers(1, 2048), max_texts=st.integers(1, 20))
def test_where_nothing_is_padded_texts_stay_in_order_within_the_budget(
    lengths: list[int], budget: int, max_texts: int
) -> None:
    groups = plan_in_order(np.array(lengths, dtype=np.int64), budget_tokens=budget, max_texts=max_texts)
    assert [position for group in groups for position in group] == list(range(len(lengths)))
    for group in groups:
        assert len(group) <= max_texts
        assert len(group) == 1 or sum(max(1, lengths[position]) for position in group) <= budget


def test_groups_are_as_full_as_the_budget_allows() -> None:
    lengths = np.array([30, 30, 30, 30, 100, 1], dtype=np.int64)
    assert as_lists(plan_in_order(lengths, budget_tokens=90)) == [[0, 1, 2], [3], [4], [5]]


@pytest.mark.parametrize(
    ("groups", "owners", "order"),
    [
        ([[0, 1], [2], [3]], [0, 0, 0, 1], [[3], [0, 1], [2]]),
        ([[0, 3], [1], [2]], [0, 0, 0, 1], [[0, 3], [1], [2]]),
        ([[1], [2], [0, 3]], [0, 0, 0, 1], [[0, 3], [1], [2]]),
        ([[0], [1]], [5, 4], [[1], [0]]),
        ([], [], []),
    ],
    ids=[
        "the small one first",
        "with what it shares",
        "wherever that is",
        "in the order of owners",
        "nothing",
    ],
)
def test_who_needs_the_fewest_groups_is_done_first(
    groups: list[list[int]], owners: list[int], order: list[list[int]]
) -> None:
    arrays = [np.array(group, dtype=np.int64) for group in groups]
    assert as_lists(soonest_first(arrays, np.array(owners, dtype=np.int64))) == order
