"""Says in words what a comparison shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from embedfleet.evaluation.intervals import Interval
from embedfleet.evaluation.planning import MINIMAL_QUERIES
from embedfleet.wording import number_of


class Finding(StrEnum):
    """What a comparison shows. The values are stable: they are stored and sent."""

    A_BETTER = "a_better"
    B_BETTER = "b_better"
    SAME = "same"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding with its numbers and its sentence.

    `difference` is the mean of B minus A, `interval` bounds it, `smallest_difference` is what the run was
    planned to find. `more_queries` is about how many more would decide; 0 if it is decided.
    """

    finding: Finding
    difference: float
    interval: Interval
    smallest_difference: float
    queries: int
    more_queries: int
    sentence: str

    @property
    def is_decided(self) -> bool:
        """Whether more queries would tell nothing that the run was to find out."""
        return self.finding is not Finding.CANNOT_TELL


def verdict(
    difference: float,
    interval: Interval,
    *,
    queries: int,
    smallest_difference: float,
    minimal_queries: int = MINIMAL_QUERIES,
    a: str = "A",
    b: str = "B",
) -> Verdict:
    """Judge a mean difference of B minus A by its interval. `a` and `b` are the models' names.

    Use the interval of a confidence sequence if the run was looked at before, and that of one look otherwise.
    One model is better if 0 is outside of the interval; they are the same if the whole interval is within the
    smallest difference of interest. Fewer queries than `minimal_queries` decide nothing: they bound these
    questions, and are too few to stand for the questions that people ask.
    """
    more = minimal_queries - queries
    finding = Finding.CANNOT_TELL if more > 0 else _finding(interval, smallest_difference)
    if finding is not Finding.CANNOT_TELL:
        more = 0
    elif _finding(interval, smallest_difference) is Finding.CANNOT_TELL:
        more = max(more, _more_queries(difference, interval, queries, smallest_difference))
    return Verdict(
        finding,
        difference,
        interval,
        smallest_difference,
        queries,
        more,
        _sentence(finding, difference, interval, smallest_difference, more, a, b),
    )


def _finding(interval: Interval, smallest_difference: float) -> Finding:
    if interval.low > 0:
        return Finding.B_BETTER
    if interval.high < 0:
        return Finding.A_BETTER
    return Finding.SAME if interval.is_within(smallest_difference) else Finding.CANNOT_TELL


def _more_queries(difference: float, interval: Interval, queries: int, smallest_difference: float) -> int:
    """Estimate how many more queries decide, if the mean stays where it is.

    Half the width of an interval falls with the root of the queries. It has to fall below the distance of the
    mean to 0, or below its distance to the smallest difference of interest, whichever is longer.
    """
    half = (interval.high - interval.low) / 2
    distance = max(abs(difference), smallest_difference - abs(difference))
    return max(1, math.ceil(queries * ((half / distance) ** 2 - 1)))


def _sentence(
    finding: Finding,
    difference: float,
    interval: Interval,
    smallest_difference: float,
    more: int,
    a: str,
    b: str,
) -> str:
    percent = f"{interval.confidence * 100:.4g}%"
    if finding is Finding.SAME:
        return (
            f"{a} and {b} are the same within {smallest_difference:g} "
            f"({percent} {interval.low:+.3f} to {interval.high:+.3f})"
        )
    if finding is Finding.CANNOT_TELL:
        return (
            f"cannot tell: about {number_of(more, 'more query', 'more queries')} "
            f"(so far {b} minus {a} is {difference:+.3f}, "
            f"{percent} {interval.low:+.3f} to {interval.high:+.3f})"
        )
    better, sign = (b, 1) if finding is Finding.B_BETTER else (a, -1)
    low, high = sorted((sign * interval.low, sign * interval.high))
    small = ", less than was looked for" if interval.is_within(smallest_difference) else ""
    return f"{better} better by {sign * difference:.3f} ({percent} {low:.3f} to {high:.3f}){small}"


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Whether B is worse than A by less than a margin, and the reason in words and numbers."""

    passed: bool
    reason: str


def not_worse(
    difference: float, interval: Interval, *, margin: float, what: str = "recall", a: str = "A", b: str = "B"
) -> NonInferiority:
    """Decide whether B is not worse than A by `margin` or more, of a metric that `what` names.

    It passes if the lower bound of B minus A is above -margin, so uncertainty counts against B. With an
    interval of 95%, a B that is worse by the margin passes with a probability of 2.5%. One look decides: use
    the interval of a confidence sequence if there is a second one.
    """
    passed = interval.low > -margin
    bounds = f"{interval.confidence * 100:.4g}% {interval.low:+.3f} to {interval.high:+.3f}"
    told = f"{what} of {b} minus {a} is {difference:+.3f} ({bounds})"
    if passed:
        return NonInferiority(True, f"{told}: any loss is below the margin of {margin:g}")
    if interval.high < -margin:
        return NonInferiority(False, f"{told}: a loss of more than the margin of {margin:g}")
    return NonInferiority(False, f"{told}: a loss of the margin of {margin:g} is not excluded")
