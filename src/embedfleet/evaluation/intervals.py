"""Confidence intervals for one look at a finished sample, of a proportion and of a mean difference.

Who looks while the sample still grows uses `confidence_sequence` instead: an interval of one look that is
looked at again and again misses the truth far more often than it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval: of many such intervals, the share `confidence` holds the true value."""

    low: float
    high: float
    confidence: float = CONFIDENCE

    def is_within(self, bound: float) -> bool:
        """Return whether the whole interval is between -bound and bound."""
        return -bound <= self.low and self.high <= bound


def wilson(hits: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a proportion by Wilson (1927). It is honest for few trials and near 0 and 1."""
    if not 0 <= hits <= trials:
        raise InvalidRequest(f"{hits} hits of {trials} trials: give from 0 to as many hits as trials")
    if trials == 0:
        return Interval(0.0, 1.0, confidence)
    z = _normal_quantile(confidence)
    share, weight = hits / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / trials / 4) / (1 + weight)
    return Interval(max(0.0, middle - half), min(1.0, middle + half), confidence)


def paired_interval(
    differences: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval of the mean of paired differences, each of them from -1 to 1.

    It is Student's interval after the half observations of Agresti and Min (2005, "Simple improved confidence
    intervals for comparing matched proportions"): half a difference of 1, half of -1, and one of 0 are added.
    Without these, the interval has a width of 0 where all pairs are equal, as if that proved that the models
    are. With them, it holds the truth as often as it says, also where scores are 0 or 1 and few pairs differ.
    """
    values = bounded(differences)
    observations = values.size + 2.0
    mean = float(values.sum()) / observations
    variance = (float(np.square(values).sum()) + 1.0) / observations - mean * mean
    half = _student_quantile(confidence, values.size + 1) * math.sqrt(max(variance, 0.0) / observations)
    return Interval(max(-1.0, mean - half), min(1.0, mean + half), confidence)


def bounded(differences: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences as an array. All must be from -1 to 1, on which every bound here rests."""
    values = np.asarray(differences, dtype=np.float64)
    # Written so that a NaN is refused too.
    if not bool(np.all(np.abs(values) <= 1.0)):
        raise InvalidRequest("a difference of scores is not from -1 to 1: give scores from 0 to 1")
    return values


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _student_quantile(confidence: float, freedom: int) -> float:
    """Return the two-sided quantile of Student's t, by Abramowitz and Stegun (1964), 26.7.5.

    The error is below 0.5% from 4 degrees of freedom on. Fewer get the quantile of 1 degree, which is exact
    for it and too wide for 2 and 3.
    """
    if freedom < 4:
        return math.tan(math.pi * confidence / 2)
    z = _normal_quantile(confidence)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3 + g4 / freedom**4
