"""How texts share model calls: pure functions, which tests check with tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest

# The fixed cost of a call, in tokens. Measured on two CPU cores: from about this size on, a call's time is
# proportional to its padded tokens, so larger batches gain nothing and padding is pure loss.
CALL_TOKENS = 64

MAX_TEXTS = 512
"""Texts of one call where the model has no limit: more of them make it no faster."""


def plan_batches(
    lengths: NDArray[np.int64], *, budget_tokens: int, max_texts: int = MAX_TEXTS
) -> list[NDArray[np.int64]]:
    """Group texts into micro-batches of bounded padded size, with the least padding there can be.

    `lengths`: int64 (n,), tokens of each text, each >= 0. Returns positions, int64 each; every position
    is in exactly one group, and the same lengths always give the same groups. A group of k texts has
    k <= `max_texts` and k * longest <= `budget_tokens` (an empty text counts as one token); a text over
    the budget goes alone. No other grouping within these limits has a smaller sum of padded tokens and
    `CALL_TOKENS` a group. Longest texts come first: a machine short of memory fails early, not late.

    Raises InvalidRequest for a budget or `max_texts` below 1, or a negative length.
    """
    if budget_tokens < 1 or max_texts < 1:
        raise InvalidRequest(
            f"plan_batches: budget_tokens ({budget_tokens}) and max_texts ({max_texts}) must be at least 1"
        )
    if len(lengths) and lengths.min() < 0:
        raise InvalidRequest(f"plan_batches: a length is negative ({lengths.min()})")
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    starts = _cheapest_starts(np.maximum(lengths[order], 1), budget_tokens, max_texts)
    groups: list[NDArray[np.int64]] = []
    end = len(order)
    while end:
        start = int(starts[end])
        groups.append(order[start:end])
        end = start
    return groups


def plan_in_order(
    lengths: NDArray[np.int64], *, budget_tokens: int, max_texts: int = MAX_TEXTS
) -> list[NDArray[np.int64]]:
    """As `plan_batches`, for a model that does not pad: texts stay in order, and a group's tokens are the sum
    of its texts' tokens."""
    costs = np.maximum(lengths, 1)
    groups: list[NDArray[np.int64]] = []
    start = 0
    while start < len(costs):
        sums = np.cumsum(costs[start : start + max_texts])
        fitting = int(np.searchsorted(sums, budget_tokens, side="right"))
        past = min(start + max(1, fitting), len(costs))
        groups.append(np.arange(start, past, dtype=np.int64))
        start = past
    return groups


def soonest_first(groups: Sequence[NDArray[np.int64]], owners: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The groups, ordered so that owners are complete early: the owner with texts in the fewest groups first.

    `owners`: int64 (n,), the owner of each text. The mean wait is least when the shortest work goes first,
    and the few texts of a small document do not wait for those of a large document beside them.
    """
    owners_of_groups = [np.unique(owners[group]).tolist() for group in groups]
    needed: dict[int, list[int]] = {}
    for index, owners_of_group in enumerate(owners_of_groups):
        for owner in owners_of_group:
            needed.setdefault(owner, []).append(index)
    order: dict[int, None] = {}  # a set that keeps the order of insertion
    for owner in sorted(needed, key=lambda owner: (len(needed[owner]), owner)):
        order.update(dict.fromkeys(needed[owner]))
    return [groups[index] for index in order]


def _cheapest_starts(ascending: NDArray[np.int64], budget_tokens: int, max_texts: int) -> NDArray[np.int64]:
    """For each end, where the last group of the cheapest grouping of `ascending[:end]` starts.

    Dynamic programming over the sorted lengths. It is enough to look at groups of neighbours: if two groups
    overlap, they can exchange texts until they do not, which keeps their sizes and makes the longest text of
    neither longer.
    """
    count = len(ascending)
    cost = np.zeros(count + 1, dtype=np.int64)
    starts = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        longest = int(ascending[end - 1])
        first = max(0, end - max(1, min(max_texts, budget_tokens // longest)))
        candidates = cost[first:end] + longest * np.arange(end - first, 0, -1)
        best = int(candidates.argmin())
        cost[end] = candidates[best] + CALL_TOKENS
        starts[end] = first + best
    return starts
