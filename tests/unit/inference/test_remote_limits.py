"""What protects a model server, and us from it: arithmetic over a clock that the test moves."""

from __future__ import annotations

import random

import pytest

from embedfleet.inference.backends.batch_limit import BatchLimit
from embedfleet.inference.backends.circuit_breaker import CircuitBreaker
from embedfleet.inference.backends.congestion import Congestion
from embedfleet.inference.backends.token_bucket import TokenBucket

# --- the bucket ------------------------------------------------------------------------------------


def pass_times(bucket: TokenBucket, amounts: list[float], start: float = 1000.0) -> list[float]:
    """When each amount passes, one after the other, as early as it may; from `start` on."""
    now, times = start, []
    for amount in amounts:
        now += bucket.wait_seconds(amount, now)
        assert bucket.wait_seconds(amount, now) == 0, "after the wait it may pass"
        bucket.take(amount, now)
        times.append(round(now - start, 6))
    return times


@pytest.mark.parametrize(
    ("per_minute", "amounts", "times"),
    [
        (60, [1, 1, 1, 1], [0, 1, 2, 3]),
        (600, [1] * 12, [0] * 10 + [0.1, 0.2]),
        (6, [1, 1, 1], [0, 10, 20]),
        (60, [30, 1, 1], [0, 30, 31]),
        (6000, [100, 250, 100], [0, 1, 3.5]),
    ],
    ids=["one a second", "a second's worth at once", "less than one a second", "debt is paid off", "tokens"],
)
def test_the_rate_holds_whatever_single_ones_cost(
    per_minute: float, amounts: list[float], times: list[float]
) -> None:
    assert pass_times(TokenBucket(per_minute), amounts) == pytest.approx(times)


def test_idle_time_earns_no_more_than_a_second() -> None:
    bucket = TokenBucket(600)
    assert pass_times(bucket, [1] * 10) == [0] * 10
    assert pass_times(bucket, [1] * 12, start=9999.0) == pytest.approx([0] * 10 + [0.1, 0.2])


# --- congestion ------------------------------------------------------------------------------------


def congestion(most: int) -> Congestion:
    return Congestion(most, random.Random(1))


def test_everybody_waits_as_long_as_the_server_says() -> None:
    server = congestion(8)
    server.refused(1, latest=1, now=100.0, retry_after_seconds=30)
    assert server.pause_seconds(100.0) == 30
    assert server.pause_seconds(129.0) == 1
    assert server.pause_seconds(130.0) == 0


def test_a_burst_that_is_refused_as_one_halves_the_requests_at_once_only_once() -> None:
    server = congestion(16)
    for number in range(1, 17):
        server.refused(number, latest=16, now=0.0, retry_after_seconds=None)
    assert server.window == 8
    server.refused(17, latest=17, now=20.0, retry_after_seconds=None)
    assert server.window == 4


@pytest.mark.parametrize("most", [1, 4, 64])
def test_after_refusals_the_requests_at_once_grow_by_one_a_round_until_all_are_back(most: int) -> None:
    server = congestion(most)
    number = 0
    for _ in range(10):
        number += 1
        server.refused(number, latest=number, now=0.0, retry_after_seconds=1)
    assert server.window == 1
    rounds = 0
    while server.window < most:
        rounds += 1
        for _ in range(server.window):
            number += 1
            server.answered(number)
    assert rounds <= 1.5 * most


def test_without_a_time_pauses_double_with_jitter_are_bounded_and_begin_anew_after_a_success() -> None:
    server = congestion(4)
    pauses = []
    now = 0.0
    for number in range(1, 40):
        server.refused(number, latest=number, now=now, retry_after_seconds=None)
        pauses.append(server.pause_seconds(now))
        now += 1000
    assert all(pause <= min(10, 0.5 * 2**n) for n, pause in enumerate(pauses))
    assert max(pauses) > 5
    server.answered(40)
    server.refused(41, latest=41, now=now, retry_after_seconds=None)
    assert server.pause_seconds(now) <= 0.5


def test_a_server_that_names_a_year_is_asked_again_in_minutes() -> None:
    server = congestion(4)
    server.refused(1, latest=1, now=0.0, retry_after_seconds=365 * 86_400)
    assert server.pause_seconds(0.0) == 300


def test_a_late_answer_does_not_end_a_pause_nor_shorten_it() -> None:
    server = congestion(4)
    server.refused(2, latest=3, now=0.0, retry_after_seconds=30)
    server.answered(1)
    server.refused(3, latest=3, now=1.0, retry_after_seconds=5)
    assert server.pause_seconds(1.0) == 29


# --- the breaker -----------------------------------------------------------------------------------


def opened(now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(5):
        assert breaker.refuses_for(now) == 0
        assert not breaker.let_through()
        breaker.failed(now, probe=False)
    return breaker


def test_it_opens_after_failures_in_a_row_not_after_failures() -> None:
    breaker = CircuitBreaker()
    for _ in range(20):
        breaker.failed(0.0, probe=False)
        breaker.answered()
    assert breaker.refuses_for(0.0) == 0
    assert opened().refuses_for(0.0) == 1


def test_after_the_pause_one_request_is_let_through_and_no_second() -> None:
    breaker = opened()
    assert breaker.refuses_for(0.5) == 0.5
    assert breaker.refuses_for(1.0) == 0
    assert breaker.let_through()
    assert breaker.refuses_for(1.0) > 0
    breaker.answered()
    assert breaker.refuses_for(1.0) == 0
    assert not breaker.let_through()


def test_each_probe_that_fails_doubles_the_pause_up_to_ten_seconds() -> None:
    breaker, now, pauses = opened(), 1.0, []
    for _ in range(6):
        assert breaker.let_through()
        breaker.failed(now, probe=True)
        pauses.append(breaker.refuses_for(now))
        now += pauses[-1]
    assert pauses == [2, 4, 8, 10, 10, 10]


def test_failures_of_requests_sent_before_it_opened_do_not_lengthen_the_pause() -> None:
    breaker = opened()
    for _ in range(20):
        breaker.failed(0.9, probe=False)
    assert breaker.refuses_for(1.0) == 0


def test_a_probe_of_which_nothing_was_learnt_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.let_through()
    breaker.abandoned(probe=True)
    assert breaker.refuses_for(1.0) == 0
    assert breaker.let_through()


# --- the batch limit -------------------------------------------------------------------------------


def test_a_refused_batch_halves_the_limit_once_however_many_replicas_were_refused() -> None:
    limit = BatchLimit(64)
    assert limit.refused(64)
    assert not limit.refused(64)
    assert limit.texts == 32
    assert limit.refused(20)
    assert limit.texts == 10


def test_it_ends_at_one_and_comes_back_if_it_was_not_the_number() -> None:
    limit = BatchLimit(5)
    while limit.texts > 1:
        limit.refused(limit.texts)
    assert limit.texts == 1
    limit.restore(5)
    assert limit.texts == 5
    limit.restore(3)
    assert limit.texts == 5
