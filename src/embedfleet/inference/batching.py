"""How texts share model calls: a pure function, so that the policy can be tested with a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest


def plan_batches(
    lengths: NDArray[np.int64], *, budget_tokens: int, max_texts: int = 256
) -> list[NDArray[np.int64]]:
    """Group texts of similar length into micro-batches of bounded padded size.

    `lengths`: int64 (n,), tokens of each text, each >= 0. Returns positions, int64 each; every position
    is in exactly one group, and the same lengths always give the same groups. A group of k texts
    satisfies `k <= max_texts` and `k * max(longest, 1) <= budget_tokens`; a text over the budget goes
    alone. The longest texts come first, so that a machine short of memory fails early, not late.

    Raises InvalidRequest for a budget or `max_texts` below 1, or a negative length.
    """
    if budget_tokens < 1 or max_texts < 1:
        raise InvalidRequest(
            f"plan_batches: budget_tokens ({budget_tokens}) and max_texts ({max_texts}) must be at least 1"
        )
    if len(lengths) and lengths.min() < 0:
        raise InvalidRequest(f"plan_batches: a length is negative ({lengths.min()})")
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    groups: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = max(1, min(max_texts, budget_tokens // longest))
        groups.append(order[start : start + size])
        start += size
    return groups
