"""The guard's rules: whether a step of a plan goes on, goes up, or goes back. Pure.

A step is judged by the requests that were decided in it. Two rates have a limit, and the same test
(`traffic.rates`) tells on which side of it they are: requests that the fleet failed, and requests for which
the fleet took longer than `max_p99_ratio` times the old path's p99. If the fleet's p99 is at its limit, 1% of
its requests are slower than that: so 1% is the limit of the second rate. The old path's p99 is an estimate
from `FEWEST_OLD_REQUESTS` requests or more; the test takes it as given.

One rate above its limit ends the step at once. The next step begins when the time is over and both rates are
below their limits: with too few requests, the step goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from embedfleet.records.traffic_counts import Counts
from embedfleet.traffic.latencies import number_above, observations, quantile_seconds
from embedfleet.traffic.rates import Observed, Side
from embedfleet.traffic.state import Plan, PlanOutcome, TrafficState
from embedfleet.wording import number_of, readable_seconds

SLOW_FRACTION = 0.01
"""The share of requests that a p99 leaves above itself."""
FEWEST_OLD_REQUESTS = 300
"""The old path's p99 is known after this many of its requests: then three are above it on average."""


class Action(StrEnum):
    """What the guard does. `hold`: nothing now. `climb`: to the next step. `back`: to the last good step,
    and the plan ends. `finish`: the last step was good, and the plan ends."""

    HOLD = "hold"
    CLIMB = "climb"
    BACK = "back"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The requests that were decided in the present step, by path.

    A request that the fleet failed to answer counts as an error, whether or not the old path then did.
    """

    new: Counts
    old: Counts


@dataclass(frozen=True, slots=True)
class Decision:
    """What the guard does, and why, in words and numbers.

    `old_p99_seconds` is what the fleet's latency was held against; None: it could not be judged.
    """

    action: Action
    reason: str
    old_p99_seconds: float | None


def decide(plan: Plan, evidence: Evidence, now: float) -> Decision:
    """Judge the present step of a plan that has not ended."""
    old_p99 = p99_seconds(evidence.old) or plan.old_p99_seconds
    rates = [_errors(plan, evidence.new)]
    if old_p99 is not None:
        rates.append(_slow(plan, evidence.new, old_p99))
    breached = [rate for rate in rates if rate.observed.side is Side.ABOVE]
    if breached:
        return Decision(Action.BACK, f"{_at(plan)} is above a limit: {_found(breached)}", old_p99)
    found = _found(rates) if old_p99 else f"{_found(rates)}; latency: the old path's p99 is not known"
    missing = _missing(plan, [rate.observed for rate in rates], now, knows_old_p99=old_p99 is not None)
    if missing:
        return Decision(Action.HOLD, f"{_at(plan)}: {', '.join(missing)}; {found}", old_p99)
    action = Action.FINISH if plan.is_last_step else Action.CLIMB
    return Decision(action, f"{_at(plan)} is good: {found}", old_p99)


def p99_seconds(old: Counts) -> float | None:
    """Return the old path's p99, to hold the fleet's latencies against; None: too few requests to tell."""
    if observations(old.latencies) < FEWEST_OLD_REQUESTS:
        return None
    return quantile_seconds(old.latencies, 1 - SLOW_FRACTION)


def after(state: TrafficState, plan: Plan, decision: Decision, now: float) -> TrafficState:
    """Return the state that a decision other than `hold` leads to. The change that makes it has the next
    number."""
    known = {"old_p99_seconds": decision.old_p99_seconds}
    match decision.action:
        case Action.CLIMB:
            step = plan.step + 1
            begun = {"step": step, "since": now, "first_change_id": state.change_id + 1}
            changed = {"percent": plan.steps[step], "plan": plan.model_copy(update=known | begun)}
        case Action.BACK:
            ended = known | {"outcome": PlanOutcome.BREACHED}
            changed = {"percent": plan.last_good_percent, "plan": plan.model_copy(update=ended)}
        case Action.FINISH:
            changed = {"plan": plan.model_copy(update=known | {"outcome": PlanOutcome.FINISHED})}
        case Action.HOLD:
            changed = {}
    return state.model_copy(update=changed)


@dataclass(frozen=True, slots=True)
class _Rate:
    """A rate that has a limit, and what it is of, in words."""

    name: str
    observed: Observed


def _errors(plan: Plan, new: Counts) -> _Rate:
    return _Rate("failed", Observed(new.errors, new.requests, plan.max_error_rate))


def _slow(plan: Plan, new: Counts, old_p99: float) -> _Rate:
    bound = plan.max_p99_ratio * old_p99
    slow = Observed(number_above(new.latencies, bound), observations(new.latencies), SLOW_FRACTION)
    return _Rate(f"took longer than {bound:.3g} s ({plan.max_p99_ratio:g} x the old path's p99)", slow)


def _found(rates: Sequence[_Rate]) -> str:
    """Return the rates in words: `9 of 40 (22.5%, limit 1%) failed`."""
    return "; ".join(f"{rate.observed} {rate.name}" for rate in rates)


def _missing(plan: Plan, rates: Sequence[Observed], now: float, *, knows_old_p99: bool) -> list[str]:
    """Return what the step still needs before it is good, in words."""
    missing = []
    if plan.paused:
        missing.append("the plan is paused")
    left = plan.since + plan.hold_seconds - now
    if left > 0:
        missing.append(f"{readable_seconds(math.ceil(left))} of its time is left")
    needed = max(rate.further_good_requests for rate in rates)
    if needed:
        verb = "is" if needed == 1 else "are"
        missing.append(f"{number_of(needed, 'more good request')} to the fleet {verb} needed")
    # At 100% the old path is asked no more, so its p99 will never be known if it is not by now.
    if not knows_old_p99 and plan.steps[plan.step] < 100:
        missing.append(f"the old path's p99 is not known before {FEWEST_OLD_REQUESTS} of its requests")
    return missing


def _at(plan: Plan) -> str:
    return f"step {plan.step + 1} of {len(plan.steps)} ({plan.steps[plan.step]:g}%)"
