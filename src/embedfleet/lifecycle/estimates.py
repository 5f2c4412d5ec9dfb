"""The arithmetic of estimates: sums, money, time, and a budget. Pure: no text, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedfleet.eta import two_digits
from embedfleet.queue_schemas import DocumentEstimate, Estimate, EstimateState, RateSource


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens a second, and where they were measured. `seconds_before`: the time until the jobs that the
    tenant has already have ended; None if it cannot be told."""

    tokens_per_second: float
    source: RateSource
    seconds_before: float | None = None


def pace_of_past(jobs: Sequence[tuple[float, float, int]]) -> Pace | None:
    """Return the pace at which jobs (begun, ended, tokens) were done together. None if it cannot be told.

    Time in which none of them was under way does not count.
    """
    busy = _busy_seconds((begun, ended) for begun, ended, _ in jobs)
    tokens = sum(tokens for _, _, tokens in jobs)
    return Pace(tokens / busy, RateSource.PAST) if tokens and busy > 0 else None


def _busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Return how long at least one of the spans (start, end) was under way."""
    busy = 0.0
    until = float("-inf")
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


def summed(documents: Sequence[DocumentEstimate], *, currency: str, pace: Pace | None) -> Estimate:
    """Sum the estimates of documents up. The cost is None if one that would be charged has none."""
    embed = [one for one in documents if one.state is EstimateState.EMBEDS]
    costs = [one.cost for one in documents if one.tokens]
    to_embed = sum(one.tokens_to_embed or 0 for one in embed)
    seconds = None if pace is None else to_embed / pace.tokens_per_second
    return Estimate(
        documents=len(documents),
        embeds=len(embed),
        unchanged=_number(documents, EstimateState.UNCHANGED),
        under_way=_number(documents, EstimateState.UNDER_WAY),
        unreadable=_number(documents, EstimateState.UNREADABLE),
        chars=sum(one.chars for one in embed),
        bytes=sum(one.bytes for one in embed),
        tokens=sum(one.tokens for one in documents),
        cost=None if None in costs else sum(cost for cost in costs if cost is not None),
        currency=currency,
        chunks=sum(one.chunks or 0 for one in embed),
        chunks_stored=sum(one.chunks_stored or 0 for one in embed),
        chunks_cached=sum(one.chunks_cached or 0 for one in embed),
        chunks_to_embed=sum(one.chunks_to_embed or 0 for one in embed),
        tokens_to_embed=to_embed,
        seconds=two_digits(seconds),
        seconds_before=None if pace is None else pace.seconds_before,
        tokens_per_second=None if pace is None else two_digits(pace.tokens_per_second),
        rate_source=None if pace is None else pace.source,
    )


def _number(documents: Sequence[DocumentEstimate], state: EstimateState) -> int:
    return sum(one.state is state for one in documents)


class Budget:
    """What may still be spent. It starts with `cap`, in the currency of the prices.

    `stopped_at` names what it refused first, and `next_cost` is the price of that; None if it has no price.
    """

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self.spent = 0.0
        self.stopped_at: str | None = None
        self.next_cost: float | None = None

    def take(self, name: str, cost: float | None) -> bool:
        """Spend what `name` costs. Return False, and spend nothing, if less is left or it has no price."""
        if cost is None or self.spent + cost > self.cap:
            self.stopped_at, self.next_cost = name, cost
            return False
        self.spent += cost
        return True
