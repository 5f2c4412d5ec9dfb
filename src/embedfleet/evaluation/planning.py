"""How many questions a comparison needs, said before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.confidence_sequence import ConfidenceSequence
from embedfleet.evaluation.intervals import CONFIDENCE, bounded

MINIMAL_QUERIES = 250
"""What Spärck Jones and van Rijsbergen (1976) call minimally acceptable, if the questions are to stand for
what people ask; fewer than 75 they call of no real value. It counts beside the arithmetic."""

DEFAULT_DEVIATION = 0.5
"""The standard deviation of paired differences where no pilot says it. It is cautious: a 0/1 metric has it if
the two models disagree about a quarter of all questions."""

DEFAULT_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """What is looked for, and how many queries find it.

    `smallest_difference`: a true difference of this size is found with the probability `power` within
    `queries`. `deviation` is the standard deviation of the paired differences that was taken for granted: if
    it is larger in truth, the power is lower, and the share of false alarms is the same. `bet` tunes the
    confidence sequence to the plan.

    To show that two models are the same takes more. Of runs with equal models, about 60% say "the same within
    the smallest difference" within `queries`, and about 90% within one and a half times as many (simulated,
    for a power of 80%).
    """

    smallest_difference: float
    deviation: float
    power: float
    confidence: float
    queries: int
    bet: float

    def sequence(self) -> ConfidenceSequence:
        """Return the bounds by which the run is looked at while it grows."""
        return ConfidenceSequence(self.bet, self.confidence)


def plan(
    smallest_difference: float,
    *,
    deviation: float = DEFAULT_DEVIATION,
    power: float = DEFAULT_POWER,
    confidence: float = CONFIDENCE,
) -> Plan:
    """Plan a run that is looked at after every query.

    The logarithm of the planned bet's capital after n queries is about normal with the mean `c s - c²/2`,
    where `s = difference √n / deviation`. It has to reach `log(4 / (1 - confidence))`: the threshold, and the
    half of the capital that is on the grid. The best `c` is `√(2 log(4 / (1 - confidence)))`. The early looks
    come on top, so the power is higher than promised and the run often ends at half of its queries.
    """
    _check(smallest_difference, deviation, power, confidence)
    reach = math.sqrt(2 * math.log(4 / (1 - confidence)))
    # A bet is won and lost with the second moment about the doubted mean, 0, which is more than the variance.
    moment = deviation**2 + smallest_difference**2
    steps = (reach + NormalDist().inv_cdf(power)) ** 2
    queries = max(MINIMAL_QUERIES, math.ceil(steps * moment / smallest_difference**2))
    return Plan(
        smallest_difference, deviation, power, confidence, queries, bet=reach / math.sqrt(queries * moment)
    )


def queries_of_one_look(
    smallest_difference: float,
    *,
    deviation: float = DEFAULT_DEVIATION,
    power: float = DEFAULT_POWER,
    confidence: float = CONFIDENCE,
) -> int:
    """Return how many queries a run needs if it is looked at once, at its end (`paired_interval`)."""
    _check(smallest_difference, deviation, power, confidence)
    normal = NormalDist()
    steps = (normal.inv_cdf(0.5 + confidence / 2) + normal.inv_cdf(power)) ** 2
    moment = deviation**2 + smallest_difference**2
    return max(MINIMAL_QUERIES, math.ceil(steps * moment / smallest_difference**2))


def pilot_deviation(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the deviation to plan with, from the paired differences of a pilot: its upper 80% bound.

    A small pilot that happens to look quiet would make the run too short. The bound is the estimate times
    `1 + 0.84 / √(2 (n - 1))`, of the normal approximation; it is never 0, as half observations are added.
    """
    values = bounded(differences)
    if values.size < 2:
        return DEFAULT_DEVIATION
    moment = (float(np.square(values).sum()) + 1) / (values.size + 2)
    margin = 1 + NormalDist().inv_cdf(0.8) / math.sqrt(2 * (values.size - 1))
    return min(1.0, math.sqrt(moment) * margin)


def _check(smallest_difference: float, deviation: float, power: float, confidence: float) -> None:
    if not 0.001 <= smallest_difference < 1:
        raise InvalidRequest(
            f"a smallest difference of {smallest_difference:g}: give one from 0.001 to below 1"
        )
    if not 0 < deviation <= 1:
        raise InvalidRequest(f"a deviation of {deviation:g}: differences of scores have one from 0 to 1")
    if not 0.5 <= power < 1 or not 0.5 <= confidence < 1:
        raise InvalidRequest(
            f"a power of {power:g} and a confidence of {confidence:g}: give both from 0.5 to below 1"
        )
