"""Back-off: bounds, growth, jitter, and when to give up."""

from __future__ import annotations

import math
import random

import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.retry import BackOff, RetryPolicy, retry_delay_seconds


class HighestDraw(random.Random):
    """Draws the upper end: shows the ceiling of the jitter."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 5.0), (6, 5.0), (10**9, 5.0)]
)
def test_the_ceiling_doubles_with_every_attempt_up_to_the_cap(attempt: int, ceiling: float) -> None:
    assert retry_delay_seconds(attempt, base=0.5, cap=5.0, rng=HighestDraw()) == ceiling


def test_the_delay_is_spread_over_all_of_zero_to_the_ceiling() -> None:
    rng = random.Random(3)
    delays = [retry_delay_seconds(3, base=1.0, cap=60.0, rng=rng) for _ in range(2_000)]
    assert all(0 <= delay <= 4 for delay in delays)
    quarters = [sum(quarter <= delay < quarter + 1 for delay in delays) for quarter in range(4)]
    assert min(quarters) > 400, "about 500 each"


def test_the_same_seed_gives_the_same_delays() -> None:
    first, second = (
        [retry_delay_seconds(n, base=1, cap=60, rng=rng) for n in range(1, 9)]
        for rng in (random.Random(4), random.Random(4))
    )
    assert first == second


def test_a_policy_delays_by_its_own_base_and_cap() -> None:
    policy = RetryPolicy(base_seconds=2.0, cap_seconds=3.0)
    assert [policy.delay_seconds(attempt, HighestDraw()) for attempt in (1, 2, 3)] == [2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_seconds": 0.0},
        {"base_seconds": -1.0},
        {"base_seconds": math.nan},
        {"base_seconds": 10.0, "cap_seconds": 9.0},
    ],
)
def test_an_impossible_policy_cannot_be_made(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match="retry policy"):
        RetryPolicy(**wrong)


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_success() -> None:
    pauses = BackOff(0.5, 3.0)
    assert [pauses.next_seconds() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert pauses.failures == 5
    pauses.reset()
    assert pauses.next_seconds() == 0.5


def test_pauses_that_double_for_ever_do_not_overflow() -> None:
    pauses = BackOff(1.0, 60.0)
    for _ in range(5_000):
        last = pauses.next_seconds()
    assert last == 60.0


def test_a_pause_may_be_asked_for_again_without_another_failure() -> None:
    pauses = BackOff(1.0, 60.0)
    assert pauses.pause_seconds() == 0.0
    pauses.add_failure()
    pauses.add_failure()
    assert [pauses.pause_seconds(), pauses.pause_seconds()] == [2.0, 2.0]


def test_pauses_with_an_rng_have_full_jitter() -> None:
    highest = BackOff(0.5, 3.0, HighestDraw())
    assert [highest.next_seconds() for _ in range(4)] == [0.5, 1.0, 2.0, 3.0]
    spread = BackOff(0.5, 3.0, random.Random(5))
    assert len({spread.next_seconds() for _ in range(9)}) == 9
