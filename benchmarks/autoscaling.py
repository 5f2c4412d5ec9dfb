"""Figure R14: how a pool follows its load, simulated event by event in virtual time.

    python benchmarks/autoscaling.py [--short] [--plot docs/images/autoscaling.svg]

The pool is a model (Poisson arrivals, tasks of 0.2 to 0.8 s, 3 s from the decision until a new worker takes
its first task, workers that go finish their task first); the decisions are those of `embedfleet.scaling`
with its default policy, once a second. So the figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from report import write_report

from embedfleet.scaling import (
    Observation,
    PoolLimits,
    ScalingState,
    ServiceMeter,
    decide,
)
from embedfleet.settings import ScalingPolicy

COST_PER_SECOND = 1000.0
START_SECONDS = 3.0
TASK_SECONDS = (0.2, 0.8)
DECIDE_EVERY_SECONDS = 1.0

Load = Callable[[float], float]
"""Virtual time to what arrives, in workers that it keeps busy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool after a decision. `backlog_seconds`: what waits, for the workers that can work by now."""

    at: float
    load: float
    workers: int
    backlog_seconds: float


class PoolModel:
    """A queue and its workers in virtual time."""

    def __init__(
        self, *, load: Load, workers: int, limits: PoolLimits, seed: int, policy: ScalingPolicy | None = None
    ) -> None:
        self.now = 0.0
        self.workers = workers  # how many there are meant to be
        self.policy = policy or ScalingPolicy()
        self.samples: list[Sample] = []
        self.latencies: list[float] = []
        self._load = load
        self._limits = limits
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._queue: deque[tuple[float, float]] = deque()  # arrived at, seconds of work
        self._idle = workers
        self._busy = 0
        self._surplus = 0  # are to go as soon as they have finished or started
        self._meter = ServiceMeter()
        self._worked = 0.0
        self._finished = 0.0
        self._state = ScalingState()

    def run(self, seconds: float) -> list[Sample]:
        """Live for so long; returns a sample for every decision."""
        self.at(0.0, self._decide)
        self._arrivals_from(0.0)
        while self._events and self._events[0][0] <= seconds:
            at, _, happen = heapq.heappop(self._events)
            self._worked += self._busy * (at - self.now)
            self.now = at
            happen()
        return self.samples

    def offer(self, work_seconds: float) -> None:
        """One task arrives now."""
        self._queue.append((self.now, work_seconds))
        self._assign()

    def at(self, when: float, happen: Callable[[], None]) -> None:
        """Let this happen then."""
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _arrivals_from(self, start: float) -> None:
        """A Poisson process whose rate follows the load: candidates at the highest rate, thinned out."""
        highest = 32.0
        mean_seconds = sum(TASK_SECONDS) / 2

        def candidate() -> None:
            if self._rng.random() < self._load(self.now) / highest:
                self.offer(self._rng.uniform(*TASK_SECONDS))
            self.at(self.now + self._rng.expovariate(highest / mean_seconds), candidate)

        self.at(start, candidate)

    def _assign(self) -> None:
        while self._idle and self._queue:
            arrived, work = self._queue.popleft()
            self._idle -= 1
            self._busy += 1
            self.at(self.now + work, partial(self._done, arrived, work))

    def _done(self, arrived: float, work: float) -> None:
        self._busy -= 1
        self._finished += work * COST_PER_SECOND
        self.latencies.append(self.now - arrived)
        self._free_one()

    def _free_one(self) -> None:
        """A worker has finished its task, or has started."""
        if self._surplus:
            self._surplus -= 1
            return
        self._idle += 1
        self._assign()

    def _decide(self) -> None:
        self._meter.add(self.now, busy_seconds=self._worked, cost=self._finished)
        self._worked = self._finished = 0.0
        backlog = sum(work for _, work in self._queue)
        decision = decide(self.policy, self._limits, self._observe(backlog), self._state)
        self._state = decision.state
        self._resize(decision.target)
        serving = max(1, self._idle + self._busy - self._surplus)
        self.samples.append(Sample(self.now, self._load(self.now), self.workers, backlog / serving))
        self.at(self.now + DECIDE_EVERY_SECONDS, self._decide)

    def _observe(self, backlog: float) -> Observation:
        return Observation(
            now=self.now,
            workers=self.workers,
            backlog_cost=backlog * COST_PER_SECOND,
            waiting_tasks=len(self._queue),
            held_tasks=self._busy,
            busy_workers=self._meter.busy_workers,
            cost_per_busy_second=self._meter.cost_per_busy_second,
        )

    def _resize(self, target: int) -> None:
        more = target - self.workers
        self.workers = target
        for _ in range(more):
            self.at(self.now + START_SECONDS, self._free_one)
        for _ in range(-more):
            if self._idle:
                self._idle -= 1
            else:
                self._surplus += 1


# --- figures ---


def reversals(samples: list[Sample]) -> int:
    """How often the pool changed its direction, growing after it shrank or the other way round."""
    changes = [after.workers - before.workers for before, after in pairwise(samples)]
    directions = [change > 0 for change in changes if change]
    return sum(before != after for before, after in pairwise(directions))


def seconds_until_calm(samples: list[Sample], since: float, target_seconds: float) -> float:
    """From `since` until the backlog was under the target and stayed there."""
    late = [sample.at for sample in samples if sample.at >= since and sample.backlog_seconds > target_seconds]
    return max(late) + DECIDE_EVERY_SECONDS - since if late else 0.0


def worker_hours(samples: list[Sample]) -> float:
    return sum(sample.workers for sample in samples) * DECIDE_EVERY_SECONDS / 3600


# --- scenarios ---


@dataclass(frozen=True, slots=True)
class Outcome:
    figures: dict[str, Any]
    samples: list[Sample]


def step(seed: int, *, before_seconds: float = 300.0, after_seconds: float = 600.0) -> Outcome:
    """Ten times the load from one moment to the next."""
    pool = PoolModel(
        load=lambda now: 1.6 if now < before_seconds else 16.0,
        workers=2,
        limits=PoolLimits(1, 32),
        seed=seed,
    )
    samples = pool.run(before_seconds + after_seconds)
    after = [sample for sample in samples if sample.at >= before_seconds]
    return Outcome(
        {
            "back_under_target_after_seconds": seconds_until_calm(
                samples, before_seconds, pool.policy.target_backlog_seconds
            ),
            "highest_backlog_seconds": round(max(sample.backlog_seconds for sample in after), 1),
            "workers_before": after[0].workers,
            "workers_most": max(sample.workers for sample in after),
            "workers_at_the_end": after[-1].workers,
            "target": "back under the target in <= 60 s",
        },
        samples,
    )


def noise(seed: int, *, seconds: float = 3600.0) -> Outcome:
    """A load of 8 workers, every 5 s another within +-20%, from one worker on."""
    factors = random.Random(seed + 1).choices(range(80, 121), k=math.ceil(seconds / 5) + 1)
    pool = PoolModel(
        load=lambda now: 8.0 * factors[int(now // 5)] / 100,
        workers=1,
        limits=PoolLimits(1, 32),
        seed=seed,
    )
    samples = pool.run(seconds)
    settled = [sample for sample in samples if sample.at >= 300]
    return Outcome(
        {
            "reversals": reversals(samples),
            "workers_fewest_when_settled": min(sample.workers for sample in settled),
            "workers_most_when_settled": max(sample.workers for sample in settled),
            "highest_backlog_seconds_when_settled": round(
                max(sample.backlog_seconds for sample in settled), 1
            ),
            "target": "<= 1 reversal",
        },
        samples,
    )


def day(seed: int, *, seconds: float = 4 * 3600.0) -> Outcome:
    """One swing from a load of 1 worker to 15 and back: a day, made shorter."""

    def load(now: float) -> float:
        return 8.0 - 7.0 * math.cos(2 * math.pi * now / seconds)

    pool = PoolModel(load=load, workers=2, limits=PoolLimits(1, 32), seed=seed)
    samples = pool.run(seconds)
    over = sum(sample.backlog_seconds > pool.policy.target_backlog_seconds for sample in samples)
    used = worker_hours(samples)
    return Outcome(
        {
            "reversals": reversals(samples),
            "share_of_time_over_target": round(over / len(samples), 4),
            "worker_hours": round(used, 1),
            "worker_hours_of_the_work_itself": round(seconds * 8.0 / 3600, 1),
            "worker_hours_of_a_pool_sized_for_the_peak": round(seconds * 15.0 / 0.8 / 3600, 1),
        },
        samples,
    )


def to_and_from_none(seed: int, *, idle_seconds: float = 900.0) -> Outcome:
    """A minute of load, then nothing, then one message."""
    pool = PoolModel(
        load=lambda now: 4.0 if now < 60 else 0.0,
        workers=0,
        limits=PoolLimits(0, 32),
        seed=seed,
    )
    message_at = 60 + idle_seconds + 0.5  # between two decisions
    pool.at(message_at, lambda: pool.offer(0.5))
    samples = pool.run(message_at + 60)
    asleep = [s.at for s in samples if 60 < s.at <= message_at and s.workers == 0]
    woken = [s for s in samples if s.at > message_at and s.workers > 0]
    return Outcome(
        {
            "to_none_after_seconds": asleep[0] - 60 if asleep else None,
            "woken_after_seconds": woken[0].at - message_at if woken else None,
            "workers_woken": max((s.workers for s in woken), default=0),
            "message_done_after_seconds": round(pool.latencies[-1], 2),
            "target": "one message wakes a worker",
        },
        samples,
    )


# --- the picture ---


def plot(outcomes: dict[str, Outcome], path: Path) -> None:
    """Load, workers and backlog over time, one column a scenario."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "embedfleet", "font.size": 9})
    figure, axes = plt.subplots(2, len(outcomes), figsize=(11, 4.4), sharex="col", height_ratios=(3, 2))
    for column, (title, outcome) in enumerate(outcomes.items()):
        every = max(1, len(outcome.samples) // 250)
        samples = outcome.samples[::every]
        minutes = [sample.at / 60 for sample in samples]
        upper, lower = axes[0][column], axes[1][column]
        upper.step(minutes, [s.workers for s in samples], where="post", color="tab:blue", label="workers")
        upper.plot(minutes, [s.load for s in samples], color="tab:orange", lw=1, label="load, in workers")
        lower.plot(minutes, [s.backlog_seconds for s in samples], color="tab:green", lw=1)
        lower.axhline(ScalingPolicy().target_backlog_seconds, color="grey", lw=0.8, ls="--")
        upper.set_title(title)
        lower.set_xlabel("minutes")
        for axis in (upper, lower):
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(bottom=0)
    axes[0][0].legend(frameon=False)
    axes[1][0].set_ylabel("backlog, seconds")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="one seed, a shorter day: for CI")
    parser.add_argument("--plot", type=Path, help="write the picture of the first seed here (SVG)")
    arguments = parser.parse_args()
    seeds = range(1) if arguments.short else range(5)
    scenarios = {
        "step x10": [step(seed) for seed in seeds],
        "noise +-20%": [noise(seed, seconds=1200 if arguments.short else 3600) for seed in seeds],
        "a day": [day(seed, seconds=3600 if arguments.short else 4 * 3600) for seed in seeds],
        "to none and back": [to_and_from_none(seed) for seed in seeds],
    }
    write_report(
        "autoscaling",
        {name: [outcome.figures for outcome in outcomes] for name, outcomes in scenarios.items()},
    )
    if arguments.plot is not None:
        plot({name: outcomes[0] for name, outcomes in scenarios.items()}, arguments.plot)


if __name__ == "__main__":
    main()
