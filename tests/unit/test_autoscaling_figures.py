"""The figures promised of the autoscaler, in virtual time: exact, and the same on every machine."""

from __future__ import annotations

import pytest
from autoscaling import Sample, day, noise, reversals, step, to_and_from_none


@pytest.mark.parametrize("seed", range(3))
def test_ten_times_the_load_is_back_under_the_target_within_a_minute(seed: int) -> None:
    figures = step(seed).figures
    assert figures["back_under_target_after_seconds"] <= 60
    assert figures["highest_backlog_seconds"] > 10, "or the step was no challenge"
    assert figures["workers_at_the_end"] <= 22, "16 busy ones and head-room, not more"


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_a_fifth_turns_the_pool_round_at_most_once(seed: int) -> None:
    figures = noise(seed, seconds=1200).figures
    assert figures["reversals"] <= 1
    assert figures["workers_most_when_settled"] <= 12


def test_one_message_wakes_one_worker_and_it_goes_again_when_idle() -> None:
    figures = to_and_from_none(0).figures
    assert figures["workers_woken"] == 1
    assert figures["woken_after_seconds"] == 0.5, "at the next decision"
    assert figures["message_done_after_seconds"] == 4.0, "a decision, a start, the work"
    assert 300 <= figures["to_none_after_seconds"] <= 310


def test_a_day_costs_little_more_than_its_work() -> None:
    figures = day(0, seconds=3600).figures
    assert figures["share_of_time_over_target"] <= 0.01
    assert figures["worker_hours"] <= 1.4 * figures["worker_hours_of_the_work_itself"]


def test_reversals_are_counted_whatever_lies_between_them() -> None:
    path = [1, 2, 2, 4, 4, 3, 3, 2, 5, 5]
    samples = [Sample(float(at), 0.0, workers, 0.0) for at, workers in enumerate(path)]
    assert reversals(samples) == 2
