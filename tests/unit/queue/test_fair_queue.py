"""The arithmetic of fair queuing, without tasks."""

from __future__ import annotations

import random

import numpy as np
import pytest

from embedfleet.queue.broker import MAX_COST, MAX_WEIGHT, MIN_WEIGHT
from embedfleet.queue.fair_queue import STRIDE_OF_WEIGHT_ONE, FairQueue, millionths, stride


def serve(queue: FairQueue, times: int, *, cost: int = 1, weight: float = 1.0) -> str:
    """The tenants served, in order."""
    order = []
    for _ in range(times):
        tenant = queue.first()
        assert tenant is not None
        order.append(tenant)
        queue.charge(cost, weight)
    return "".join(order)


def entered(*tenants: str) -> FairQueue:
    queue = FairQueue()
    for tenant in tenants:
        queue.enter(tenant)
    return queue


@pytest.mark.parametrize("weight", [0.01, 0.1, 0.25, 0.5, *range(1, 11), 12, 20, 50, 100])
def test_the_usual_weights_have_exact_strides(weight: float) -> None:
    assert stride(weight) * weight == pytest.approx(STRIDE_OF_WEIGHT_ONE, abs=1e-9)


def test_any_weights_stride_is_right_to_a_fifth_of_a_percent() -> None:
    rng = random.Random(1)
    for _ in range(1_000):
        weight = rng.uniform(MIN_WEIGHT, MAX_WEIGHT)
        assert stride(weight) * weight == pytest.approx(STRIDE_OF_WEIGHT_ONE, rel=0.002)


def test_an_empty_queue_serves_nobody() -> None:
    queue = FairQueue()
    assert queue.first() is None
    with pytest.raises(LookupError):
        queue.charge(1, 1.0)


def test_entering_twice_changes_nothing() -> None:
    queue = entered("a", "b")
    serve(queue, 1)
    queue.enter("a")
    assert serve(queue, 3) == "bab"


def test_leaving_without_having_entered_changes_nothing() -> None:
    queue = entered("a", "b")
    serve(queue, 1)
    queue.leave("c")
    assert serve(queue, 3) == "bab"


def test_who_leaves_before_being_served_comes_back_at_virtual_time() -> None:
    queue = entered("a", "b")
    queue.leave("b")
    serve(queue, 10)
    queue.enter("b")
    assert serve(queue, 4) == "baba", "neither ten tasks of credit nor behind"


def test_a_debt_outlives_leaving_while_others_are_served() -> None:
    queue = entered("a", "b")
    queue.charge(5, 1.0)  # a
    queue.leave("a")
    queue.enter("a")
    assert serve(queue, 6) == "bbbbba"


def test_when_everybody_has_left_nobody_owes_anything() -> None:
    queue = entered("a", "b")
    queue.charge(1_000, 1.0)  # a
    for tenant in "ab":
        queue.leave(tenant)
    for tenant in "ab":
        queue.enter(tenant)
    assert serve(queue, 4) == "abab"


def test_who_is_passed_over_is_not_served_and_comes_back_at_virtual_time() -> None:
    queue = entered("a", "b", "c")
    queue.pass_over({"b", "unheard of"})
    assert serve(queue, 6) == "acacac"
    queue.take_back()
    assert serve(queue, 6) == "babcab", "one step before the others, which virtual time has reached"


def test_who_is_passed_over_keeps_its_debt() -> None:
    queue = entered("a", "b")
    queue.charge(5, 1.0)  # a
    queue.pass_over({"a"})
    assert serve(queue, 1) == "b"
    queue.take_back()
    assert serve(queue, 5) == "bbbba"


def test_a_busy_period_lasts_while_a_tenant_is_passed_over() -> None:
    queue = entered("a", "b")
    queue.charge(5, 1.0)  # a
    queue.pass_over({"b"})
    queue.leave("a")
    assert queue.first() is None
    queue.take_back()
    queue.enter("a")
    assert serve(queue, 6) == "bbbbba"


def test_passing_over_for_ever_leaves_no_garbage_behind() -> None:
    queue = entered("a", "b")
    for _ in range(10_000):
        queue.pass_over({"b"})
        serve(queue, 1)
        queue.take_back()
    assert len(queue._heap) < 20


@pytest.mark.parametrize("weight", [0.01, 0.1, 0.25, 0.5, *range(1, 11), 12, 20, 50, 100])
def test_the_usual_weights_are_exact_in_millionths(weight: float) -> None:
    assert millionths(weight) == pytest.approx(1_000_000 * weight, abs=1e-6)


def test_doubles_give_the_millionths_of_every_weight() -> None:
    """As the script calculates: a quotient in doubles, cut off after the point."""
    strides = np.arange(stride(MAX_WEIGHT), stride(MIN_WEIGHT) + 1)
    in_doubles = np.floor(1e6 * STRIDE_OF_WEIGHT_ONE / strides.astype(np.float64))
    assert np.array_equal(in_doubles.astype(np.int64), 1_000_000 * STRIDE_OF_WEIGHT_ONE // strides)


def test_beginning_virtual_time_again_does_not_change_the_order() -> None:
    """Dear tasks of light tenants pass 2**52 every few charges; unbounded integers are the reference."""
    rng = random.Random(2)
    tenants = [f"t{i}" for i in range(5)]
    queue, starts, passed_limit = entered(*tenants), dict.fromkeys(tenants, 0), False
    for _ in range(2_000):
        expected = min(tenants, key=lambda tenant: (starts[tenant], tenant))
        assert queue.first() == expected
        cost, weight = rng.randint(1, MAX_COST), rng.choice([MIN_WEIGHT, 0.02, 1.0])
        queue.charge(cost, weight)
        starts[expected] += cost * stride(weight)
        assert all(start < 2**53 for start in queue._starts.values())
        passed_limit |= starts[expected] > 2**53
    assert passed_limit, "the test must reach the limit"


def test_coming_and_going_leaves_no_garbage_behind() -> None:
    queue = entered("stays")
    for i in range(10_000):
        queue.enter(f"guest{i % 7}")
        queue.leave(f"guest{i % 7}")
    assert len(queue._heap) < 20
