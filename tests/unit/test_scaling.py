"""How many workers a pool should have: by table, and by properties over anything that may be observed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.scaling import Observation, PoolLimits, ScalingState, ServiceMeter, decide
from embedfleet.settings import ScalingPolicy

POLICY = ScalingPolicy(
    target_backlog_seconds=30,
    shrink_below_backlog_seconds=5,
    target_busy_fraction=0.8,
    max_growth_factor=2,
    max_shrink_fraction=0.25,
    grow_cooldown_seconds=5,
    shrink_cooldown_seconds=30,
    stabilisation_seconds=60,
    idle_seconds=300,
)
LIMITS = PoolLimits(1, 16)
RATE = 100.0
LONG_AGO = ScalingState(peaks=((900.0, 0),))
"""A pool that last changed, and last needed anybody, too long ago to matter."""


def seen(**more: Any) -> Observation:
    fields: dict[str, Any] = {"now": 1000.0, "workers": 4, "cost_per_busy_second": RATE} | more
    fields.setdefault("waiting_tasks", 1 if fields.get("backlog_cost") else 0)
    return Observation(**fields)


def backlog(seconds: float, *, workers: int = 4) -> float:
    """The cost that takes this many workers so long."""
    return seconds * workers * RATE


# --- when it moves, and how far ---


@pytest.mark.parametrize(
    ("observation", "target", "reason"),
    [
        # grows over the target only, towards what is needed, at most doubling
        (seen(backlog_cost=backlog(30), busy_workers=4), 4, "backlog 30 s of 30 s: stays at 4"),
        (seen(backlog_cost=backlog(31), busy_workers=0.5), 5, "backlog 31 s over 30 s: 4 -> 5"),
        (seen(backlog_cost=backlog(31), busy_workers=2), 7, "backlog 31 s over 30 s: 4 -> 7"),
        (seen(backlog_cost=backlog(84), busy_workers=4), 8, "backlog 84 s over 30 s: 4 -> 8"),
        (
            seen(workers=12, backlog_cost=backlog(84, workers=12), busy_workers=12),
            16,
            "backlog 84 s over 30 s, at most 16: 12 -> 16",
        ),
        # stays while there is something to do for those there are
        (seen(backlog_cost=backlog(5), busy_workers=0), 4, "backlog 5 s of 30 s: stays at 4"),
        (seen(busy_workers=3), 4, "backlog 0 s, 3 of 4 busy: stays at 4"),
        # shrinks to leave head-room, a quarter at once
        (seen(busy_workers=2.4), 3, "backlog 0 s, 2.4 of 4 busy: 4 -> 3"),
        (seen(workers=16, busy_workers=2), 12, "backlog 0 s, 2 of 16 busy: 16 -> 12"),
        (seen(workers=1, busy_workers=0), 1, "backlog 0 s, 0 of 1 busy: stays at 1"),
        # does not grow where it cannot help
        (
            seen(backlog_cost=backlog(84), downstream_full=True),
            4,
            "backlog 84 s over 30 s, the next stage is full: stays at 4",
        ),
        # an unknown rate
        (
            seen(backlog_cost=1e9, cost_per_busy_second=None),
            4,
            "work waits, its rate is unknown: stays at 4",
        ),
        (seen(backlog_cost=1e9, cost_per_busy_second=0.0), 4, "work waits, its rate is unknown: stays at 4"),
        (seen(cost_per_busy_second=None), 3, "backlog 0 s, 0 of 4 busy: 4 -> 3"),
        # the limits, at once
        (seen(workers=0), 1, "0 workers, at least 1: 0 -> 1"),
        (seen(workers=40, backlog_cost=1e9), 16, "40 workers, at most 16: 40 -> 16"),
    ],
)
def test_a_decision_by_table(observation: Observation, target: int, reason: str) -> None:
    decision = decide(POLICY, LIMITS, observation, LONG_AGO)
    assert (decision.target, decision.reason) == (target, reason)


# --- fast up, slowly down ---


def test_after_growing_it_waits_a_moment_before_it_grows_again() -> None:
    first = decide(POLICY, LIMITS, seen(now=1000, backlog_cost=backlog(300)), LONG_AGO)
    assert first.target == 8

    def later(now: float) -> int:
        observation = seen(now=now, workers=8, backlog_cost=backlog(300))
        return decide(POLICY, LIMITS, observation, first.state).target

    assert later(1004.9) == 8
    assert later(1005) == 16


def test_it_does_not_shrink_below_what_was_needed_a_short_while_ago() -> None:
    busy = decide(POLICY, LIMITS, seen(now=1000, busy_workers=3.2), LONG_AGO)
    assert busy.target == 4
    assert decide(POLICY, LIMITS, seen(now=1060, busy_workers=0), busy.state).target == 4
    assert decide(POLICY, LIMITS, seen(now=1060.1, busy_workers=0), busy.state).target == 3


def test_after_shrinking_it_waits_before_it_shrinks_again_but_not_before_it_grows() -> None:
    shrunk = decide(POLICY, LIMITS, seen(now=1000), LONG_AGO)
    assert shrunk.target == 3
    assert decide(POLICY, LIMITS, seen(now=1029.9, workers=3), shrunk.state).target == 3
    assert decide(POLICY, LIMITS, seen(now=1030, workers=3), shrunk.state).target == 2
    urgent = seen(now=1000.1, workers=3, backlog_cost=backlog(300))
    assert decide(POLICY, LIMITS, urgent, shrunk.state).target == 6


def test_a_new_orchestrator_does_not_shrink_the_pool_it_finds_before_it_has_watched_it() -> None:
    first = decide(POLICY, LIMITS, seen(now=1000), ScalingState())
    assert first.target == 4
    assert decide(POLICY, LIMITS, seen(now=1060), first.state).target == 4
    assert decide(POLICY, LIMITS, seen(now=1060.1), first.state).target == 3


def test_a_clock_that_goes_back_prolongs_a_cool_down_by_no_more_than_itself() -> None:
    grown = decide(POLICY, LIMITS, seen(now=1000, backlog_cost=backlog(300)), LONG_AGO)
    back = decide(POLICY, LIMITS, seen(now=10, workers=8, backlog_cost=backlog(300)), grown.state)
    assert back.target == 8
    assert decide(POLICY, LIMITS, seen(now=15, workers=8, backlog_cost=backlog(300)), back.state).target == 16


# --- none ---

FROM_NONE = PoolLimits(0, 16)


@pytest.mark.parametrize("rate", [None, RATE])
def test_one_message_wakes_a_worker_at_once_whatever_changed_a_moment_ago(rate: float | None) -> None:
    a_moment_ago = ScalingState(grown_at=999.9, changed_at=999.9)
    message = seen(workers=0, backlog_cost=1, waiting_tasks=1, cost_per_busy_second=rate)
    decision = decide(POLICY, FROM_NONE, message, a_moment_ago)
    assert decision.target == 1
    assert decision.reason == "work waits and no worker is there: 0 -> 1"


def test_a_message_wakes_a_host_whose_share_of_it_is_nothing() -> None:
    message = seen(workers=0, backlog_cost=0, waiting_tasks=1)
    assert decide(POLICY, FROM_NONE, message, LONG_AGO).target == 1


def test_what_others_hold_wakes_nobody() -> None:
    assert decide(POLICY, FROM_NONE, seen(workers=0, held_tasks=3), LONG_AGO).target == 0


def test_the_last_worker_goes_only_when_nothing_was_queued_or_held_for_the_idle_time() -> None:
    state = decide(POLICY, FROM_NONE, seen(now=0, workers=1, held_tasks=1), LONG_AGO).state

    def target(now: float, **more: Any) -> int:
        nonlocal state
        decision = decide(POLICY, FROM_NONE, seen(now=now, workers=1, **more), state)
        state = decision.state
        return decision.target

    assert target(400, held_tasks=1) == 1, "it is at work"
    assert target(401) == 1, "idle from here on"
    assert target(700.9) == 1
    assert target(700.95, waiting_tasks=1) == 1, "not idle any more"
    assert target(701) == 1
    assert target(1001) == 0


def test_a_pool_idle_since_the_clock_began_goes_as_any_other() -> None:
    state = decide(POLICY, FROM_NONE, seen(now=0, workers=1), ScalingState()).state
    state = decide(POLICY, FROM_NONE, seen(now=299, workers=1), state).state
    assert decide(POLICY, FROM_NONE, seen(now=300, workers=1), state).target == 0


def test_with_a_minimum_the_last_workers_stay_however_long_they_are_idle() -> None:
    state = decide(POLICY, PoolLimits(2, 4), seen(now=0, workers=2), ScalingState()).state
    assert decide(POLICY, PoolLimits(2, 4), seen(now=1e6, workers=2), state).target == 2


# --- whatever is observed ---

amounts = st.one_of(st.just(0.0), st.floats(0, 1e12), st.floats(0, allow_infinity=False))
counts = st.integers(0, 200)
observations = st.builds(
    Observation,
    now=st.floats(0, 2000),
    workers=counts,
    backlog_cost=amounts,
    waiting_tasks=counts,
    held_tasks=counts,
    busy_workers=amounts,
    cost_per_busy_second=st.none() | amounts,
    downstream_full=st.booleans(),
)
limits = st.tuples(counts, counts).map(lambda pair: PoolLimits(min(pair), max(pair)))
policies = st.builds(
    ScalingPolicy,
    target_backlog_seconds=st.floats(2.5, 100),
    shrink_below_backlog_seconds=st.floats(0, 2),
    target_busy_fraction=st.floats(0.1, 1),
    max_growth_factor=st.floats(1.1, 10),
    max_shrink_fraction=st.floats(0.01, 1),
    grow_cooldown_seconds=st.floats(0, 100),
    shrink_cooldown_seconds=st.floats(0, 100),
    stabilisation_seconds=st.floats(0, 100),
    idle_seconds=st.floats(0, 100),
)
histories = st.lists(observations, max_size=6)


def state_after(policy: ScalingPolicy, within: PoolLimits, history: list[Observation]) -> ScalingState:
    state = ScalingState()
    for observation in history:
        state = decide(policy, within, observation, state).state
    return state


@given(policies, limits, histories, observations)
def test_the_limits_always_hold_and_the_reason_is_one_line(
    policy: ScalingPolicy, within: PoolLimits, history: list[Observation], observation: Observation
) -> None:
    decision = decide(policy, within, observation, state_after(policy, within, history))
    assert within.min_workers <= decision.target <= within.max_workers
    assert decision.reason
    assert "\n" not in decision.reason


@given(policies, limits, histories, observations, amounts, counts)
def test_more_backlog_never_gives_fewer_workers(
    policy: ScalingPolicy,
    within: PoolLimits,
    history: list[Observation],
    less: Observation,
    cost: float,
    tasks: int,
) -> None:
    state = state_after(policy, within, history)
    more = replace(
        less, backlog_cost=max(less.backlog_cost, cost), waiting_tasks=max(less.waiting_tasks, tasks)
    )
    assert decide(policy, within, less, state).target <= decide(policy, within, more, state).target


@given(policies, limits, histories, observations)
def test_one_step_is_never_larger_than_the_policy_allows(
    policy: ScalingPolicy, within: PoolLimits, history: list[Observation], observation: Observation
) -> None:
    workers = observation.workers
    if not within.min_workers <= workers <= within.max_workers:
        return
    target = decide(policy, within, observation, state_after(policy, within, history)).target
    assert target <= math.ceil(max(workers, 1) * policy.max_growth_factor)
    assert target >= workers - max(1, workers * policy.max_shrink_fraction)


@given(policies, counts, histories)
def test_a_pool_whose_minimum_is_its_maximum_never_moves(
    policy: ScalingPolicy, workers: int, history: list[Observation]
) -> None:
    state = ScalingState()
    for observation in history:
        decision = decide(policy, PoolLimits(workers, workers), replace(observation, workers=workers), state)
        assert decision.target == workers
        state = decision.state


@given(policies, limits, st.lists(observations, min_size=1, max_size=30))
def test_the_state_stays_small(policy: ScalingPolicy, within: PoolLimits, history: list[Observation]) -> None:
    peaks = [peak for _, peak in state_after(policy, within, history).peaks]
    assert all(earlier > later for earlier, later in pairwise(peaks))


# --- what workers did ---


def test_the_meter_tells_the_mean_at_work_and_their_rate_over_its_window() -> None:
    meter = ServiceMeter(window_seconds=10)
    assert (meter.busy_workers, meter.cost_per_busy_second) == (0.0, None)
    for now in range(100, 111):
        meter.add(now, busy_seconds=3, cost=600)
    assert (meter.busy_workers, meter.cost_per_busy_second) == (3.0, 200.0)
    for now in range(111, 116):
        meter.add(now, busy_seconds=1, cost=100)
    assert (meter.busy_workers, meter.cost_per_busy_second) == (2.0, 175.0), "half of each"


def test_the_meter_remembers_the_rate_of_a_pool_that_idles() -> None:
    meter = ServiceMeter(window_seconds=10)
    meter.add(0, busy_seconds=0, cost=0)
    meter.add(1, busy_seconds=1, cost=50)
    for now in range(2, 60):
        meter.add(now, busy_seconds=0, cost=0)
    assert (meter.busy_workers, meter.cost_per_busy_second) == (0.0, 50.0)


def test_the_meter_does_not_call_a_first_unfinished_claim_a_rate_of_nothing() -> None:
    meter = ServiceMeter(window_seconds=10)
    for now in range(5):
        meter.add(now, busy_seconds=1, cost=0)
    assert (meter.busy_workers, meter.cost_per_busy_second) == (1.0, None)


# --- numbers that cannot be ---


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["now", "workers", "backlog_cost", "busy_workers", "cost_per_busy_second"])
def test_an_observation_that_cannot_be_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=field):
        seen(**{field: value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_backlog_seconds": 2},
        {"shrink_below_backlog_seconds": math.nan},
        {"target_busy_fraction": 0},
        {"target_busy_fraction": 1.1},
        {"max_shrink_fraction": 0},
        {"max_growth_factor": 1},
        {"idle_seconds": math.inf},
        {"grow_cooldown_seconds": -1},
    ],
)
def test_a_policy_that_cannot_work_is_refused_by_name(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        ScalingPolicy(**wrong)


@pytest.mark.parametrize(("fewest", "most"), [(-1, 1), (2, 1)])
def test_limits_that_contradict_each_other_are_refused(fewest: int, most: int) -> None:
    with pytest.raises(InvalidRequest):
        PoolLimits(fewest, most)
