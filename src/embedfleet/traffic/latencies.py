"""Latencies counted in classes, from which quantiles are computed within a stated error.

A class is 5% wide: its upper bound is 1.05 times its lower bound. So a quantile, for which the middle of a
class is given, is within 2.5% of an observed value. Class 0 begins at 10 microseconds, and holds all that is
faster. The last class ends after about 20 minutes, and holds all that is slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_WIDTH = 1.05
_SHORTEST_SECONDS = 1e-5
_LONGEST_SECONDS = 1_200.0
_SCALE = 1.0 / math.log(_WIDTH)
_OFFSET = math.log(_SHORTEST_SECONDS)

LAST_CLASS = math.ceil((math.log(_LONGEST_SECONDS) - _OFFSET) * _SCALE) - 1
"""The number of the slowest class."""


def class_of(seconds: float) -> int:
    """Return the number of the class of a latency."""
    if seconds <= _SHORTEST_SECONDS:
        return 0
    return min(LAST_CLASS, int((math.log(seconds) - _OFFSET) * _SCALE))


def bounds_seconds(number: int) -> tuple[float, float]:
    """Return the lower and the upper bound of a class, in seconds."""
    return _SHORTEST_SECONDS * _WIDTH**number, _SHORTEST_SECONDS * _WIDTH ** (number + 1)


def middle_seconds(number: int) -> float:
    """Return the geometric middle of a class, in seconds."""
    lower, upper = bounds_seconds(number)
    return math.sqrt(lower * upper)


def observations(latencies: Mapping[int, int]) -> int:
    """Return how many latencies were counted. `latencies` has a number for each class."""
    return sum(latencies.values())


def quantile_seconds(latencies: Mapping[int, int], fraction: float) -> float | None:
    """Return the latency that `fraction` of the observations do not exceed, within 2.5%.

    It is the middle of the class of the observation at rank ceil(fraction x n). None without observations.
    """
    rank = max(1, math.ceil(fraction * observations(latencies)))
    seen = 0
    for number in sorted(latencies):
        seen += latencies[number]
        if seen >= rank:
            return middle_seconds(number)
    return None


def number_above(latencies: Mapping[int, int], seconds: float) -> int:
    """Return how many observations are certainly above `seconds`: those in the classes wholly above it.

    Those in the class that contains `seconds` do not count.
    """
    last = class_of(seconds)
    return sum(number for one, number in latencies.items() if one > last)
