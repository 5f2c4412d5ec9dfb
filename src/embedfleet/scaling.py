"""How many workers a pool should have: pure policy, to be tested with tables and simulated.

The measure is time, not depth: how long what waits would take the workers there are. With `rate` what one
busy worker serves in a second::

    backlog_seconds = backlog_cost / (rate * workers)
    needed          = busy_workers / target_busy_fraction + backlog_cost / (rate * target_backlog_seconds)

`needed` is the workers that keep up with what arrives, with head-room, and those that clear what waits in
the target time. A pool

* grows towards it as soon as `backlog_seconds` is over the target, by at most `max_growth_factor` at once;
* shrinks towards the highest it was during the last `stabilisation_seconds`, and only while
  `backlog_seconds` is below `shrink_below_backlog_seconds`, by at most `max_shrink_fraction` at once;
* stays in between.

Growing on the backlog and shrinking on the load is what keeps it from swinging: a pool that has drained its
queue is small enough only if the workers left would have head-room.

From none, the first task that waits wakes a worker at once; to none only if the minimum is 0 and nothing was
queued or held for `idle_seconds`. The limits hold always and at once. Each pool of each host decides alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields, replace

from embedfleet.errors import InvalidRequest
from embedfleet.settings import ScalingPolicy


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The fewest and the most workers of one pool on one host. Equal: the pool never moves."""

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
    """One pool of one host at one moment. InvalidRequest for a number that is negative, infinite or NaN.

    * `now`: seconds of any clock; one that goes back only prolongs a cool-down by the time since then.
    * `workers`: how many the pool is meant to have, those still starting included, those draining not. A
      crashed one counts: to replace it is its launcher's business, not a reason to shrink.
    * `backlog_cost`: this host's share of what is ready in the stage (`Depth.ready_cost`, tokens, divided by
      the live hosts that serve it). Not what is leased: it has its worker already.
    * `waiting_tasks`, `held_tasks`: ready, and leased, in the whole stage. Not divided: one message wakes
      every sleeping host, for a host cannot know which of the others is about to die.
    * `busy_workers`: mean number of this host's workers that were at work lately (`ServiceMeter`). More than
      `workers` means that the pool was larger then, and counts as all.
    * `cost_per_busy_second`: tokens that one worker serves in a second of work (`ServiceMeter`). None (or 0)
      when nothing was measured yet: then the pool wakes and shrinks, but does not grow.
    * `downstream_full`: the stage after this one is at its high-water mark. More workers would only wait, so
      the pool does not grow.
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
        return self.waiting_tasks > 0 or self.backlog_cost > 0

    @property
    def backlog_seconds(self) -> float | None:
        """What waits, in seconds of all workers (of one, if there is none); None if the rate is unknown."""
        backlog = self.backlog_worker_seconds
        return None if backlog is None else backlog / max(self.workers, 1)

    @property
    def backlog_worker_seconds(self) -> float | None:
        """What waits, in seconds of one worker; None if there is some and the rate is unknown."""
        if self.backlog_cost == 0:
            return 0.0
        return self.backlog_cost / self.cost_per_busy_second if self.cost_per_busy_second else None


class ServiceMeter:
    """What a pool's workers did over the last `window_seconds`, from what they report.

    The window should span several claims: a worker that reports a claim when it is done seems idle until
    then.
    """

    def __init__(self, window_seconds: float = 20.0) -> None:
        self._window_seconds = window_seconds
        self._reports: deque[tuple[float, float, float]] = deque()
        self._since: float | None = None
        self._rate: float | None = None

    def add(self, now: float, *, busy_seconds: float, cost: float) -> None:
        """All workers together, since the last call: seconds they worked, tokens they finished."""
        if self._since is None:
            self._since = now  # the span of this report is not known
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
        """Mean number at work in the window; 0 before the second report."""
        if self._since is None or not self._reports:
            return 0.0
        span = self._reports[-1][0] - self._since
        return sum(report[1] for report in self._reports) / span if span > 0 else 0.0

    @property
    def cost_per_busy_second(self) -> float | None:
        """Tokens a second of work, as last measured; None before anything was finished."""
        return self._rate


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What a pool's next decision must know of the earlier ones. Begin with `ScalingState()`.

    `peaks`: (time, workers needed), newest last, each lower than the one before: all that the maximum of the
    stabilisation window can ever be.
    """

    grown_at: float | None = None
    changed_at: float | None = None
    idle_since: float | None = None
    peaks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """`target` workers, within the limits; `reason`, one line for the log; the state for the next time."""

    target: int
    reason: str
    state: ScalingState


def decide(policy: ScalingPolicy, limits: PoolLimits, seen: Observation, state: ScalingState) -> Decision:
    """The pool's size from now on. Everything else equal, more backlog never gives fewer workers."""
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
    """To keep up with what arrives and clear what waits in the target time; None if nobody can tell yet."""
    backlog = seen.backlog_worker_seconds
    if backlog is None:
        return None
    busy = min(seen.busy_workers, seen.workers)
    return busy / policy.target_busy_fraction + backlog / policy.target_backlog_seconds


def _wanted(
    policy: ScalingPolicy, limits: PoolLimits, seen: Observation, state: ScalingState
) -> tuple[int, str]:
    """The size before the limits, and why."""
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
    return max(1, _towards_needed(policy, seen)), "work waits and nobody is there"


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
    """The state with this observation in it, and nothing in it that is later than now."""
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
