"""Bounds on a mean difference that hold at every look at once, so looking early does no harm.

The method is betting (Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by
betting", arXiv 2010.09686). A gambler doubts that the mean is at most `m`, pays `1 + m` for a share, and gets
`1 + difference` for it. If the mean is at most `m`, the shares cost too much to win with in the long run. By
Ville's inequality, the capital then grows to 2/0.05 times its start with a probability of at most 0.05/2,
however often one looks. So once it has grown that much, `m` is out. The other side is doubted the same way.

The gambler splits the capital at the start and bets a fixed fraction of each part. One half of the capital
takes the fraction that is best for the planned difference. The other half takes the fractions of a grid, so
that a wrong plan costs queries and never the guarantee. As the fractions are fixed, the order of the
questions does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.evaluation.intervals import CONFIDENCE, Interval, bounded

# What is bet of a part of the capital. Neighbours differ by a factor of about 1.4: where the best fraction is
# between two of them, the growth is almost as good. Each is below 1, so no single loss takes all of the part.
_FRACTIONS = (0.95, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125, 0.0875, 0.0625, 0.044, 0.03, 0.02, 0.01)
_BISECTIONS = 40
_NEAREST_TO_ONE = 1.0 - 1e-6


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """The intervals of all looks at a growing sample; all of them hold together with `confidence`.

    The queries must come in a random order, as their differences are taken for draws with one mean: sorted by
    document, the first ones would decide for the others. `planned_bet` is the bet on a unit of difference
    that is best for the plan (`planning.Plan.bet`).
    """

    planned_bet: float
    confidence: float = CONFIDENCE

    @property
    def log_threshold(self) -> float:
        """The logarithm of the capital at which a mean is out. Either side gets half of the error."""
        return math.log(2 / (1 - self.confidence))

    def interval(self, differences: Sequence[float] | NDArray[np.float64]) -> Interval:
        """Return the interval after these differences, each from -1 to 1, of a sample that may still grow."""
        values, counts = np.unique(bounded(differences), return_counts=True)
        low = self._lower_bound(values, counts)
        high = -self._lower_bound(-values, counts)
        return Interval(low, high, self.confidence)

    def log_capitals(self, differences: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
        """Return the logarithm of the capital against "the mean is at most `mean`" after each difference.

        The differences are along the last axis, which takes many experiments at once.
        """
        returns = (1 + bounded(differences)) / (1 + mean) - 1
        total = np.full(returns.shape, -np.inf)
        for fraction, weight in self._bets(mean):
            total = np.logaddexp(total, np.log1p(fraction * returns).cumsum(axis=-1) + math.log(weight))
        return total

    def _lower_bound(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
        """Return the least mean that is not out.

        The capital falls with the mean that is doubted, as the share gets dearer, so the bound is found by
        halving.
        """
        out, left = -_NEAREST_TO_ONE, _NEAREST_TO_ONE
        if self._log_capital(values, counts, out) < self.log_threshold:
            return -1.0
        for _ in range(_BISECTIONS):
            middle = (out + left) / 2
            if self._log_capital(values, counts, middle) < self.log_threshold:
                left = middle
            else:
                out = middle
        return out

    def _log_capital(self, values: NDArray[np.float64], counts: NDArray[np.int64], mean: float) -> float:
        returns = (1 + values) / (1 + mean) - 1
        parts = [
            float(np.log1p(fraction * returns) @ counts) + math.log(weight)
            for fraction, weight in self._bets(mean)
        ]
        return float(np.logaddexp.reduce(parts))

    def _bets(self, mean: float) -> list[tuple[float, float]]:
        """Return the fractions of the capital at stake against a mean, with their shares of the capital."""
        planned = min(self.planned_bet * (1 + mean), _FRACTIONS[0])
        return [(planned, 0.5), *((fraction, 0.5 / len(_FRACTIONS)) for fraction in _FRACTIONS)]
