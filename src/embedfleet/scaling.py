"""Decides how many workers a pool should have. It is pure arithmetic, so it can be tested and simulated.

The measure is time, not depth: how long the workers of the pool would take for the waiting work. With `rate`,
the tokens that one busy worker serves in a second::

    backlog_seconds = backlog_cost / (rate * workers)
    needed          = busy_workers / target_busy_fraction + backlog_cost / (rate * target_backlog_seconds)

`needed` is the number of workers that keep up with the arriving work, with head-room, plus those that clear
the waiting work in the target time. A pool

* grows towards `needed` as soon as `backlog_seconds` is over the target, by at most `max_growth_factor` at
  once;
* shrinks towards the highest `needed` of the last `stabilisation_seconds`, only while `backlog_seconds` is
  below `shrink_below_backlog_seconds`, by at most `max_shrink_fraction` at once;
* keeps its size otherwise.

A pool grows on its backlog but shrinks on its load. This keeps its size from swinging: a pool that has
drained its queue shrinks only if the remaining workers would have head-room.

A pool of no workers starts one as soon as a task waits. A pool shrinks to none only if its minimum is 0 and
no task was queued or held for `idle_seconds`. The limits always apply, at once. Each pool of each host
decides by itself.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields, replace

from embedfleet.errors import InvalidRequest
from embedfleet.settings import ScalingPolicy


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The fewest and the most workers of one pool on one host. If they are equal, the size never changes."""

    min_workers: int
    max_workers: int

    def __post_init__(self) -> None:
        if not 0 <= self.min_workers <= self.max_workers:
            raise InvalidRequest(
                f"pool limits: min_workers is {self.min_workers} and max_workers {self.max_workers}; "
                "it must be 0 <= min_workers <= max_workers"
            )


@dataclass(frozen=True, slots=True)
class Observation:
    """One pool of one host at one moment. Raises InvalidRequest for a negative number, infinity or NaN.

    * `now`: seconds of any clock. A clock that goes back only prolongs a cool-down by the time it went back.
    * `workers`: how many the pool is meant to have. Those that still start count, those that drain do not.
      A crashed one counts too: its launcher replaces it, and the pool has no reason to shrink.
    * `backlog_cost`: this host's share of the ready tokens of the stage (`Depth.ready_cost` divided by the
      live hosts that serve it). Leased tokens do not count, because they have their workers already.
    * `waiting_tasks`, `held_tasks`: the ready and the leased tasks of the whole stage. They are not divided:
      one task wakes every host without workers, because a host cannot know which of the others will die.
    * `busy_workers`: the mean number of this host's workers that were at work lately (`ServiceMeter`). If it
      is more than `workers`, the pool was larger then, and it counts as all workers.
    * `cost_per_busy_second`: the tokens that one worker serves in a second of work (`ServiceMeter`). None or
      0 if nothing was measured yet: then the pool wakes and shrinks, but does not grow.
    * `downstream_full`: whether the next stage is at its limit of queued work. More workers would only wait,
      so the pool does not grow.
    """

    now: float
    workers: int
    backlog_cost: float = 0.0
    waiting_tasks: int = 0
    held_tasks: int = 0
    busy_workers: float = 0.0
    cost_per_busy_second: float | None = None
    downstream_full: bool = False

    def __post_init__(self) -> None:
        _require_not_negative(self)

    @property
    def work_waits(self) -> bool:
        """Whether any task or token is ready."""
        return self.waiting_tasks > 0 or self.backlog_cost > 0

    @property
    def backlog_seconds(self) -> float | None:
        """The waiting work, in seconds of all workers (at least one); None if the rate is unknown."""
        backlog = self.backlog_worker_seconds
        return None if backlog is None else backlog / max(self.workers, 1)

    @property
    def backlog_worker_seconds(self) -> float | None:
        """The waiting work, in seconds of one worker; None if work waits and the rate is unknown."""
        if self.backlog_cost == 0:
            return 0.0
        return self.backlog_cost / self.cost_per_busy_second if self.cost_per_busy_second else None


class ServiceMeter:
    """The work that a pool's workers did in the last `window_seconds`, by their reports.

    The window should span several claims: a worker seems idle until it reports a claim, when it is done.
    """

    def __init__(self, window_seconds: float = 20.0) -> None:
        self._window_seconds = window_seconds
        self._reports: deque[tuple[float, float, float]] = deque()
        self._since: float | None = None
        self._rate: float | None = None

    def add(self, now: float, *, busy_seconds: float, cost: float) -> None:
        """Add the seconds that all workers together worked since the last call, and the tokens they did."""
        if self._since is None:
            self._since = now  # the first report is not used: it is not known when its span began
            return
        self._reports.append((now, busy_seconds, cost))
        while self._reports[0][0] <= now - self._window_seconds:
            self._since = self._reports.popleft()[0]
        worked = sum(report[1] for report in self._reports)
        done = sum(report[2] for report in self._reports)
        if worked > 0 and done > 0:
            self._rate = done / worked

    @property
    def busy_workers(self) -> float:
        """The mean number of workers at work in the window; 0 before the second report."""
        if self._since is None or not self._reports:
            return 0.0
        span = self._reports[-1][0] - self._since
        return sum(report[1] for report in self._reports) / span if span > 0 else 0.0

    @property
    def cost_per_busy_second(self) -> float | None:
        """Tokens in a second of work, as last measured; None before any work was finished."""
        return self._rate


@dataclass(frozen=True, slots=True)
class ScalingState:
    """The part of a pool's earlier decisions that the next one needs. Begin with `ScalingState()`.

    `peaks` holds (time, workers needed), newest last, each lower than the one before. An older need that is
    not higher than a newer one is left out: it can never be the maximum of the stabilisation window.
    """

    grown_at: float | None = None
    changed_at: float | None = None
    idle_since: float | None = None
    peaks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The `target` number of workers, within the limits, the `reason` in one line for the log, and the
    `state` for the next decision."""

    target: int
    reason: str
    state: ScalingState


def decide(policy: ScalingPolicy, limits: PoolLimits, seen: Observation, state: ScalingState) -> Decision:
    """Decide the pool's size from now on. More backlog, all else equal, never gives fewer workers."""
    state = _remember(policy, limits, seen, state)
    wanted, why = _wanted(policy, limits, seen, state)
    target = min(max(wanted, limits.min_workers), limits.max_workers)
    if target > wanted:
        why += f", at least {limits.min_workers}"
    elif target < wanted:
        why += f", at most {limits.max_workers}"
    if target == seen.workers:
        return Decision(target, f"{why}: stays at {target}", state)
    state = replace(state, changed_at=seen.now)
    if target > seen.workers:
        state = replace(state, grown_at=seen.now)
    return Decision(target, f"{why}: {seen.workers} -> {target}", state)


def workers_needed(policy: ScalingPolicy, seen: Observation) -> float | None:
    """Return how many workers keep up with new work and clear the old in the target time.

    None if the rate is unknown.
    """
    backlog = seen.backlog_worker_seconds
    if backlog is None:
        return None
    busy = min(seen.busy_workers, seen.workers)
    return busy / policy.target_busy_fraction + backlog / policy.target_backlog_seconds


def _wanted(
    policy: ScalingPolicy, limits: PoolLimits, seen: Observation, state: ScalingState
) -> tuple[int, str]:
    """Return the size before the limits apply, and the reason for it."""
    if not limits.min_workers <= seen.workers <= limits.max_workers:
        return seen.workers, f"{seen.workers} workers"
    if seen.workers == 0:
        return _woken(policy, seen)
    backlog_seconds = seen.backlog_seconds
    if backlog_seconds is None:
        return seen.workers, "work waits, its rate is unknown"
    if backlog_seconds > policy.target_backlog_seconds:
        return _grown(policy, seen, state, backlog_seconds)
    if backlog_seconds < policy.shrink_below_backlog_seconds:
        return _shrunk(policy, limits, seen, state, backlog_seconds)
    return seen.workers, f"backlog {backlog_seconds:.3g} s of {policy.target_backlog_seconds:g} s"


def _woken(policy: ScalingPolicy, seen: Observation) -> tuple[int, str]:
    if not seen.work_waits:
        return 0, "nothing to do"
    return max(1, _towards_needed(policy, seen)), "work waits and no worker is there"


def _grown(
    policy: ScalingPolicy, seen: Observation, state: ScalingState, backlog_seconds: float
) -> tuple[int, str]:
    why = f"backlog {backlog_seconds:.3g} s over {policy.target_backlog_seconds:g} s"
    if seen.downstream_full:
        return seen.workers, f"{why}, the next stage is full"
    if not _passed(policy.grow_cooldown_seconds, since=state.grown_at, now=seen.now):
        return seen.workers, f"{why}, grown a moment ago"
    return max(seen.workers + 1, _towards_needed(policy, seen)), why


def _towards_needed(policy: ScalingPolicy, seen: Observation) -> int:
    needed = workers_needed(policy, seen)
    most = math.ceil(max(seen.workers, 1) * policy.max_growth_factor)
    return 0 if needed is None else math.ceil(min(needed, most))


def _shrunk(
    policy: ScalingPolicy, limits: PoolLimits, seen: Observation, state: ScalingState, backlog_seconds: float
) -> tuple[int, str]:
    why = f"backlog {backlog_seconds:.3g} s, {seen.busy_workers:.3g} of {seen.workers} busy"
    idle = state.idle_since is not None and _passed(policy.idle_seconds, since=state.idle_since, now=seen.now)
    enough = max((peak for _, peak in state.peaks), default=0)
    enough = max(enough, limits.min_workers if idle else 1)
    if enough >= seen.workers:
        return seen.workers, why
    if not _passed(policy.shrink_cooldown_seconds, since=state.changed_at, now=seen.now):
        return seen.workers, f"{why}, changed a moment ago"
    at_once = max(1, math.floor(seen.workers * policy.max_shrink_fraction))
    return max(enough, seen.workers - at_once), why


def _remember(
    policy: ScalingPolicy, limits: PoolLimits, seen: Observation, state: ScalingState
) -> ScalingState:
    """Add this observation to the state. If the clock went back, times later than now become now."""
    peaks = [(min(at, seen.now), peak) for at, peak in state.peaks] or [(seen.now, seen.workers)]
    needed = workers_needed(policy, seen)
    if needed is not None:
        latest = math.ceil(min(needed, limits.max_workers))
        peaks = [*(entry for entry in peaks if entry[1] > latest), (seen.now, latest)]
    idle_since = seen.now if state.idle_since is None else min(state.idle_since, seen.now)
    return ScalingState(
        grown_at=_no_later(state.grown_at, seen.now),
        changed_at=_no_later(state.changed_at, seen.now),
        idle_since=None if seen.work_waits or seen.held_tasks else idle_since,
        peaks=tuple(entry for entry in peaks if entry[0] >= seen.now - policy.stabilisation_seconds),
    )


def _no_later(moment: float | None, now: float) -> float | None:
    return None if moment is None else min(moment, now)


def _passed(seconds: float, *, since: float | None, now: float) -> bool:
    return since is None or now - since >= seconds


def _require_not_negative(numbers: Observation) -> None:
    for field in fields(numbers):
        value = getattr(numbers, field.name)
        if value is not None and not 0 <= value < math.inf:
            raise InvalidRequest(f"Observation: {field.name} is {value}; it must be 0 or more, and finite")
