"""The A/A check: the stopping rule over experiments without a difference, made from real answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.intervals import bounded
from embedfleet.evaluation.planning import Plan

# Bounds the memory to some ten arrays of this many numbers.
_NUMBERS_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """How many of the experiments found a better model at some look, although there is none."""

    alarms: int
    experiments: int
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the share of alarms is at most the allowed one."""
        return self.alarms <= self.allowed * self.experiments


def simulate(
    plan: Plan,
    differences: Sequence[float] | NDArray[np.float64],
    *,
    seed: int,
    experiments: int = 1_000,
) -> FalseAlarms:
    """Run A/A experiments of the planned length, looking after every query.

    The queries are drawn from the paired differences of a pilot or of a run, and a coin says for each one
    which of the two models is called B. So the experiments have the ties and the sizes of the real answers,
    and a true difference of 0.
    """
    values = bounded(differences)
    if values.size == 0:
        raise InvalidRequest(
            "no differences: an A/A check needs the answers of both models to some questions"
        )
    rng = np.random.default_rng(seed)
    sequence = plan.sequence()
    at_once = max(1, _NUMBERS_AT_ONCE // plan.queries)
    alarms = 0
    for begin in range(0, experiments, at_once):
        shape = (min(at_once, experiments - begin), plan.queries)
        drawn = rng.choice(values, shape) * rng.choice((-1.0, 1.0), shape)
        capitals = np.maximum(sequence.log_capitals(drawn, 0.0), sequence.log_capitals(-drawn, 0.0))
        alarms += int((capitals >= sequence.log_threshold).any(axis=-1).sum())
    return FalseAlarms(alarms, experiments, 1 - plan.confidence)
