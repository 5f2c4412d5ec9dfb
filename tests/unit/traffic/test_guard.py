"""The guard's rules as a table: when a step holds, goes up, goes back, or ends the plan."""

from __future__ import annotations

import pytest

from embedfleet.records.traffic_counts import Counts
from embedfleet.traffic.guard import Action, Evidence, after, decide
from embedfleet.traffic.latencies import class_of
from embedfleet.traffic.state import Plan, PlanOutcome, TrafficState

NOW = 1_000_000.0
HOLD = 600.0


def plan(**changed: object) -> Plan:
    values: dict[str, object] = {
        "steps": (1.0, 5.0, 25.0, 100.0),
        "hold_seconds": HOLD,
        "max_error_rate": 0.01,
        "max_p99_ratio": 1.5,
        "step": 2,
        "since": NOW - HOLD,
        "first_change_id": 7,
    }
    return Plan.model_validate(values | changed)


def counts(requests: int, *, errors: int = 0, slow: int = 0, seconds: float = 0.1) -> Counts:
    """Requests that took `seconds`, of which some took 10 s, and some failed."""
    latencies = {class_of(seconds): requests - slow, class_of(10.0): slow}
    return Counts(requests=requests, errors=errors, latencies={at: n for at, n in latencies.items() if n})


GOOD = counts(1_000)


@pytest.mark.parametrize(
    ("made", "new", "old", "action", "because"),
    [
        (plan(), GOOD, GOOD, Action.CLIMB, "step 3 of 4 (25%) is good: 0 of 1000 (0%, limit 1%) failed"),
        (plan(step=3), GOOD, GOOD, Action.FINISH, "step 4 of 4 (100%) is good"),
        (plan(since=NOW - HOLD + 90), GOOD, GOOD, Action.HOLD, "1m30s of its time is left"),
        (plan(paused=True), GOOD, GOOD, Action.HOLD, "the plan is paused"),
        (plan(), counts(100), GOOD, Action.HOLD, "230 more good requests to the fleet are needed"),
        (plan(), counts(0), GOOD, Action.HOLD, "330 more good requests to the fleet are needed"),
        (plan(), counts(3, errors=3), GOOD, Action.HOLD, "more good requests"),  # three tell nothing
        (plan(), counts(40, errors=9), GOOD, Action.BACK, "9 of 40 (22.5%, limit 1%) failed"),
        (plan(since=NOW), counts(40, errors=9), GOOD, Action.BACK, "is above a limit"),
        (plan(paused=True), counts(40, errors=9), GOOD, Action.BACK, "is above a limit"),
        (
            plan(),
            counts(1_000, slow=50),
            GOOD,
            Action.BACK,
            "50 of 1000 (5%, limit 1%) took longer than 0.148 s",
        ),
        (plan(), GOOD, counts(299), Action.HOLD, "the old path's p99 is not known before 300"),
        (plan(old_p99_seconds=0.1), GOOD, counts(0), Action.CLIMB, "0 of 1000 (0%, limit 1%) took longer"),
        (plan(old_p99_seconds=0.01), GOOD, counts(0), Action.BACK, "took longer than 0.015 s"),
        (plan(old_p99_seconds=0.01), GOOD, GOOD, Action.CLIMB, "is good"),
        (plan(step=3), GOOD, counts(0), Action.FINISH, "the old path's p99 is not known"),
        (plan(), counts(1_000, seconds=0.02), GOOD, Action.CLIMB, "is good"),
    ],
)
def test_what_the_guard_does(made: Plan, new: Counts, old: Counts, action: Action, because: str) -> None:
    decision = decide(made, Evidence(new=new, old=old), NOW)
    assert decision.action is action, decision.reason
    assert because in decision.reason


def test_a_climb_begins_the_next_step_with_evidence_of_its_own() -> None:
    before = TrafficState(change_id=9, percent=25.0, plan=plan())
    decision = decide(plan(), Evidence(new=GOOD, old=GOOD), NOW)
    climbed = after(before, plan(), decision, NOW)
    assert climbed.percent == 100.0
    assert climbed.plan is not None
    assert (climbed.plan.step, climbed.plan.since, climbed.plan.first_change_id) == (3, NOW, 10)
    assert climbed.plan.old_p99_seconds == pytest.approx(0.1, rel=0.05), "kept for when the old path rests"
    assert climbed.running_plan is not None


@pytest.mark.parametrize(("step", "percent"), [(0, 0.0), (2, 5.0)])
def test_a_breach_goes_back_to_the_last_good_step_and_ends_the_plan(step: int, percent: float) -> None:
    made = plan(step=step)
    before = TrafficState(change_id=9, percent=made.steps[step], plan=made)
    decision = decide(made, Evidence(new=counts(40, errors=9), old=GOOD), NOW)
    back = after(before, made, decision, NOW)
    assert back.percent == percent
    assert back.running_plan is None
    assert back.plan is not None
    assert back.plan.outcome is PlanOutcome.BREACHED


def test_a_finished_plan_keeps_its_percentage() -> None:
    made = plan(step=3)
    decision = decide(made, Evidence(new=GOOD, old=GOOD), NOW)
    ended = after(TrafficState(change_id=9, percent=100.0, plan=made), made, decision, NOW)
    assert (ended.percent, ended.running_plan) == (100.0, None)
    assert ended.plan is not None
    assert ended.plan.outcome is PlanOutcome.FINISHED
