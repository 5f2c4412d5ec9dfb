"""How a switch stands, in numbers and in words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from embedfleet.model_switching.schemas import SwitchOrder
from embedfleet.model_switching.standing import kept_until, orders_now, progress_of, sentence
from embedfleet.records.collections import Collection
from embedfleet.records.model_switches import ModelSwitch, SwitchCounts
from embedfleet.sql.states import SwitchPhase

FILLING = ModelSwitch(
    switch_id=1,
    campaign="c",
    tenant="alice",
    from_collection=Collection(1, "alice", "old", "s1", 4),
    to_collection=Collection(2, "alice", "new", "s2", 4),
    phase=SwitchPhase.FILLING,
    percent=0.0,
    wanted_percent=100.0,
    sticky_by="query",
    paused=False,
    forced=False,
    most_jobs=None,
    started_at=0.0,
    changed_at=0.0,
    switched_at=None,
    ended_at=None,
)
# 1,000 tokens in 10 busy seconds, with a pause of 90 that does not count.
PAST = [(0.0, 5.0, 500), (95.0, 100.0, 500)]


def counts(there: int, *, under_way: int = 1, failed: int = 0) -> SwitchCounts:
    return SwitchCounts(100, there, under_way, failed, chars_left=400 * (100 - there))


def in_phase(phase: SwitchPhase, percent: float = 0.0, **more: Any) -> ModelSwitch:
    return dataclasses.replace(FILLING, phase=phase, percent=percent, **more)


def test_the_time_left_is_the_rest_of_the_text_at_the_pace_of_busy_time() -> None:
    progress = progress_of(FILLING, counts(60), PAST)
    # 40 documents of 400 characters are 4,000 tokens, at 100 tokens a second.
    assert (progress.tokens_per_second, progress.seconds_left, progress.share) == (100.0, 40.0, 0.6)


@pytest.mark.parametrize(
    ("switch", "found", "past"),
    [
        (dataclasses.replace(FILLING, paused=True), counts(60), PAST),
        (FILLING, counts(0), []),
        (FILLING, counts(98, under_way=0, failed=2), PAST),
    ],
    ids=["paused", "nothing measured", "only failures are left"],
)
def test_no_time_is_told_where_none_is_known(
    switch: ModelSwitch, found: SwitchCounts, past: list[tuple[float, float, int]]
) -> None:
    assert progress_of(switch, found, past).seconds_left is None


def test_nothing_is_left_when_all_is_there() -> None:
    assert progress_of(FILLING, counts(100), []).seconds_left == 0.0
    empty = progress_of(FILLING, SwitchCounts(0, 0, 0, 0, 0), [])
    assert (empty.share, empty.seconds_left) == (1.0, 0.0)


def test_the_old_space_is_kept_from_the_full_switch_on() -> None:
    assert kept_until(in_phase(SwitchPhase.SERVING, 100, switched_at=86_400.0), 14) == 15 * 86_400.0
    assert kept_until(in_phase(SwitchPhase.SERVING, 50), 14) is None
    assert kept_until(in_phase(SwitchPhase.RETIRING, 100, switched_at=0.0), 14) is None


ALWAYS = {SwitchOrder.PAUSE, SwitchOrder.THROTTLE}


@pytest.mark.parametrize(
    ("switch", "orders"),
    [
        (FILLING, ALWAYS | {SwitchOrder.SERVE, SwitchOrder.FORCE, SwitchOrder.RETIRE}),
        (
            in_phase(SwitchPhase.REFUSED),
            ALWAYS | {SwitchOrder.SERVE, SwitchOrder.FORCE, SwitchOrder.RECHECK, SwitchOrder.RETIRE},
        ),
        (in_phase(SwitchPhase.SERVING, 50), ALWAYS | {SwitchOrder.SERVE, SwitchOrder.ROLLBACK}),
        (in_phase(SwitchPhase.SERVING), ALWAYS | {SwitchOrder.SERVE, SwitchOrder.RETIRE}),
        (
            in_phase(SwitchPhase.SERVING, 100),
            ALWAYS | {SwitchOrder.SERVE, SwitchOrder.ROLLBACK, SwitchOrder.RETIRE},
        ),
        (in_phase(SwitchPhase.RETIRING), set()),
        (in_phase(SwitchPhase.ENDED), set()),
    ],
    ids=lambda value: value.phase if isinstance(value, ModelSwitch) else "",
)
def test_what_can_be_ordered_now(switch: ModelSwitch, orders: set[SwitchOrder]) -> None:
    assert set(orders_now(switch)) == orders
    paused = orders_now(dataclasses.replace(switch, paused=True))
    assert (SwitchOrder.RESUME in paused) == bool(orders)


@pytest.mark.parametrize(
    ("switch", "found", "words"),
    [
        (FILLING, counts(60), "embedded with `new`, about 40s more, while `old` answers"),
        (FILLING, counts(98, under_way=0, failed=2), "2 documents could not be embedded"),
        (dataclasses.replace(FILLING, paused=True), counts(60), "paused: only what is submitted"),
        (in_phase(SwitchPhase.CHECKING), counts(100), "wait for its decision"),
        (in_phase(SwitchPhase.REFUSED), counts(100), "refused `new`, and `old` answers all queries"),
        (in_phase(SwitchPhase.SERVING), counts(100), "`old` answers all queries, and the space of `new`"),
        (in_phase(SwitchPhase.SERVING, 7.5), counts(100), "`new` answers 7.5% of the queries"),
        (in_phase(SwitchPhase.SERVING, 100), counts(100), "kept in step until tomorrow"),
        (in_phase(SwitchPhase.RETIRING, 100), counts(100), "the space of `old` is emptied"),
        (in_phase(SwitchPhase.RETIRING), counts(100), "the space of `new` is emptied"),
        (in_phase(SwitchPhase.ENDED, 100), counts(100), "it has ended: `new` answers"),
    ],
)
def test_a_sentence_says_how_it_stands(switch: ModelSwitch, found: SwitchCounts, words: str) -> None:
    assert words in sentence(switch, progress_of(switch, found, PAST), "tomorrow")


def test_a_trial_is_moved_by_its_experiment_only() -> None:
    trial = dataclasses.replace(FILLING, trial_of="exp_1", wanted_percent=0.0)
    assert orders_now(trial) == (SwitchOrder.PAUSE, SwitchOrder.THROTTLE)
    assert "on trial for experiment `exp_1`" in sentence(trial, None, None)


def test_a_switch_that_searches_slow_says_so_and_its_rests_count() -> None:
    slowed = dataclasses.replace(FILLING, findings={"pace": {"jobs": 6}})
    progress = progress_of(slowed, counts(60), PAST)
    # 1,000 tokens in 100 seconds, with the rest of 90.
    assert (progress.tokens_per_second, progress.seconds_left) == (10.0, 400.0)
    assert "slowed by searches to 6 at a time" in sentence(slowed, progress, None)
    assert progress_of(slowed, counts(60), []).seconds_left is None
    later = dataclasses.replace(slowed, phase=SwitchPhase.CHECKING)
    assert progress_of(later, counts(60), PAST).jobs_beside_searches is None
