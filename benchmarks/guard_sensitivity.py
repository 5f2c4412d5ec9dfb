"""How soon the traffic guard can tell a rate from its limit, and how often it is wrong.

The figures are exact: nothing is drawn at random, and they are the same on every machine.

It looks after every request. Beside it are Clopper-Pearson's bounds, looked at as often: their confidence
holds for one look, so that they call a rate at its limit above it far more often than they say.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise

from report import write_report

from embedfleet.traffic.rates import Observed, Side

LIMIT = 0.01
Says = Callable[[int, int], bool]
"""Whether a test has told, by the numbers of bad requests and of all."""


def chances(says: Says, rate: float) -> Iterator[float]:
    """Yield, for each number of requests from 1, the probability that a look at any of them has told.

    Walks through all numbers of bad requests at once: `open_chances[bad]` is the probability of this many,
    with no look before that told.
    """
    open_chances = {0: 1.0}
    told, total = 0.0, 0
    while True:
        total += 1
        following: dict[int, float] = {}
        for bad, chance in open_chances.items():
            following[bad] = following.get(bad, 0.0) + chance * (1 - rate)
            following[bad + 1] = following.get(bad + 1, 0.0) + chance * rate
        # All that is left out together stays below 1e-9.
        open_chances = {bad: chance for bad, chance in following.items() if chance > 1e-13}
        told += sum(open_chances.pop(bad) for bad in [bad for bad in open_chances if says(bad, total)])
        yield told


def guard_says(side: Side, bad: int, total: int, *, limit: float = LIMIT) -> bool:
    """Whether the guard has told that the rate is on this side of the limit."""
    return Observed(bad, total, limit).side is side


def bound_says(confidence: float, bad: int, total: int, *, limit: float = LIMIT) -> bool:
    """Whether Clopper-Pearson's lower bound is above the limit: as many bad ones are too unlikely at it."""
    below = sum(math.comb(total, k) * limit**k * (1 - limit) ** (total - k) for k in range(bad))
    return 1 - below < 1 - confidence


def requests_until(says: Says, rate: float, *, most: int, quantiles: tuple[float, ...]) -> list[int | None]:
    """How many requests it takes until the test has told with these probabilities; None: more than `most`."""
    found: list[int | None] = [None] * len(quantiles)
    for total, (before, told) in enumerate(pairwise([0.0, *islice(chances(says, rate), most)]), start=1):
        for place, quantile in enumerate(quantiles):
            if before < quantile <= told:
                found[place] = total
    return found


def chance_within(says: Says, rate: float, requests: int) -> float:
    """The probability that a look at any of the first `requests` requests has told."""
    return next(islice(chances(says, rate), requests - 1, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="how many are looked at")
    most = parser.parse_args().requests
    quantiles = (0.5, 0.95)
    above, below = partial(guard_says, Side.ABOVE), partial(guard_says, Side.BELOW)
    write_report(
        "guard_sensitivity",
        {
            "limit": LIMIT,
            "requests_looked_at": most,
            "chance_that_a_rate_at_the_limit_is_called_above": {
                "guard": chance_within(above, LIMIT, most),
                "clopper_pearson_95": chance_within(partial(bound_says, 0.95), LIMIT, min(most, 500)),
                "clopper_pearson_99": chance_within(partial(bound_says, 0.99), LIMIT, min(most, 500)),
            },
            "chance_that_a_rate_at_the_limit_is_called_below": {"guard": chance_within(below, LIMIT, most)},
            "requests_until_called_above_median_and_95_percent": {
                f"{rate:g}": requests_until(above, rate, most=most, quantiles=quantiles)
                for rate in (0.03, 0.05, 0.1, 0.2, 0.5)
            },
            "requests_until_called_below_median_and_95_percent": {
                f"{rate:g}": requests_until(below, rate, most=most, quantiles=quantiles)
                for rate in (0.0, 0.001, 0.002, 0.005)
            },
        },
    )


if __name__ == "__main__":
    main()
