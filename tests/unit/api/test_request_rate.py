"""Requests a minute: never more than the limit, whenever the minute begins."""

from __future__ import annotations

import random
from copy import deepcopy

import pytest

from embedfleet.api.request_rate import MinuteCount, RequestCounts

KEY, TENANT = ("key", "k"), ("tenant", "t")


def test_the_last_of_a_limit_is_allowed_and_the_next_is_told_when() -> None:
    counts = RequestCounts()
    for left in (2, 1, 0):
        standing = counts.take({KEY: 3}, 100.5)
        assert standing is not None
        assert (standing.remaining, standing.retry_after) == (left, None)
    refused = counts.take({KEY: 3}, 100.75)
    assert refused is not None
    assert refused.retry_after == pytest.approx(60.25)  # the second of the first one has passed for a minute
    assert counts.take({KEY: 3}, 161.0) is not None
    again = counts.take({KEY: 3}, 161.0)
    assert again is not None
    assert again.retry_after is None


def test_no_minute_has_more_requests_than_the_limit_however_they_come() -> None:
    rng = random.Random(1)
    count, limit, now, taken = MinuteCount(), 20, 1_000.0, list[float]()
    for _ in range(3_000):
        now += rng.choice([0.01, 0.1, 0.4, 3.0])
        standing = count.standing(limit, now)
        if standing.retry_after is None:
            count.add(now)
            taken.append(now)
        else:
            later = deepcopy(count).standing(limit, now + standing.retry_after)
            assert later.retry_after is None, "it may be when it was told to"
    assert len(taken) > 200
    for first, past in zip(taken, taken[limit:], strict=False):
        assert past - first > 60.0


def test_a_request_that_one_limit_refuses_counts_against_none() -> None:
    counts = RequestCounts()
    counts.take({KEY: 1, TENANT: 5}, 0.0)
    for _ in range(3):
        refused = counts.take({KEY: 1, TENANT: 5}, 1.0)
        assert refused is not None
        assert refused.limit == 1
    other = counts.take({TENANT: 5}, 2.0)
    assert other is not None
    assert other.remaining == 3


def test_without_limits_nothing_is_counted() -> None:
    assert RequestCounts().take({}, 0.0) is None


def test_keys_that_are_idle_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestCounts, "_MOST_NAMES", 10)
    counts = RequestCounts()
    for number in range(100):
        counts.take({("key", str(number)): 5}, float(number * 10))
    assert len(counts._counts) <= 11
