"""Tells whether a rate is above or below a limit, from the requests seen so far. Pure.

The guard looks every second and acts as soon as it can tell. The confidence of a usual test, such as
Clopper-Pearson's bounds, holds for one look; with a look after every request, an innocent rate crosses such a
bound sooner or later. So this is a test by betting (Wald 1945; Ville 1939; Shafer 2021): against "the rate is
at the limit, or on its good side" it bets on several rates of the other side at once. The mean stake is the
`evidence`. If the claim is true, the evidence reaches `x` at any time with a probability of 1/x at most,
however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from embedfleet.wording import readable_fraction

FALSE_STOP = 0.001
"""The greatest probability that a rate at the limit is ever called above it."""
FALSE_CLIMB = 0.05
"""The greatest probability that a rate at the limit is ever called below it. A step that goes up wrongly is
watched again on the next step, so this one need not be as small."""
FEWEST_REQUESTS = 20
"""Fewer requests than this decide nothing: the first ones may be tries of a single broken document."""

# Rates that the test bets on. Above: the odds of the limit times these. Their spacing hardly matters: between
# two of them, the evidence is smaller by a constant factor.
_ODDS_ABOVE = (1.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
# Below: the limit times the first number, with the second one as its share of the stake. Half of it is on
# "none at all", so that a clean path goes up after few requests.
_SHARES_BELOW = ((0.0, 0.5), (1 / 8, 0.2), (1 / 4, 0.15), (1 / 2, 0.15))

_MOST_REQUESTS = 1 << 40


class Side(StrEnum):
    """Where the rate is. `UNKNOWN`: the requests do not tell yet."""

    ABOVE = "above"
    BELOW = "below"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observed:
    """How many of `total` requests were `bad`, and what that says about a limit between 0 and 1, both
    excluded."""

    bad: int
    total: int
    limit: float

    @property
    def side(self) -> Side:
        """Where the rate is, as far as the requests tell."""
        if self.total < FEWEST_REQUESTS:
            return Side.UNKNOWN
        if self._log_evidence(_bets_above(self.limit)) >= -math.log(FALSE_STOP):
            return Side.ABOVE
        if self._log_evidence(_bets_below(self.limit)) >= -math.log(FALSE_CLIMB):
            return Side.BELOW
        return Side.UNKNOWN

    @property
    def further_good_requests(self) -> int:
        """How many further requests, all of them good, would show that the rate is below the limit."""
        if self.side is Side.BELOW:
            return 0
        too_few, enough = 0, FEWEST_REQUESTS
        while not self._is_below_after(enough) and enough < _MOST_REQUESTS:
            too_few, enough = enough, 2 * enough
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if self._is_below_after(middle) else (middle, enough)
        return enough

    def _is_below_after(self, good: int) -> bool:
        return Observed(self.bad, self.total + good, self.limit).side is Side.BELOW

    def _log_evidence(self, bets: Iterator[tuple[float, float]]) -> float:
        """The logarithm of the mean stake over bets of (rate, share)."""
        logs = [math.log(share) + self._log_ratio(rate) for rate, share in bets]
        greatest = max(logs)
        if greatest == -math.inf:
            return greatest
        return greatest + math.log(sum(math.exp(one - greatest) for one in logs))

    def _log_ratio(self, rate: float) -> float:
        """How much likelier the requests are at this rate than at the limit, as a logarithm."""
        good = (self.total - self.bad) * (math.log1p(-rate) - math.log1p(-self.limit))
        if self.bad == 0:
            return good
        return -math.inf if rate == 0.0 else good + self.bad * math.log(rate / self.limit)

    def __str__(self) -> str:
        rate = f"{readable_fraction(self.bad / self.total)}, " if self.total else ""
        return f"{self.bad} of {self.total} ({rate}limit {readable_fraction(self.limit)})"


def _bets_above(limit: float) -> Iterator[tuple[float, float]]:
    odds = limit / (1 - limit)
    for times in _ODDS_ABOVE:
        yield odds * times / (1 + odds * times), 1 / len(_ODDS_ABOVE)


def _bets_below(limit: float) -> Iterator[tuple[float, float]]:
    for times, share in _SHARES_BELOW:
        yield limit * times, share
