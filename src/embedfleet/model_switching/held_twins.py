"""Twins of submitted documents that wait until the backfill works next, so that they are stored together."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

# The leader renews a hold with each step. If it cannot (the database is away, another process holds the lock
# of the switches), the twins go on by themselves.
_LASTS_SECONDS = 30.0


class HeldTwins:
    """Up to which instant the twins of a switch are offered now. It is of one process: the leader's."""

    def __init__(self) -> None:
        self._until: Mapping[int, float] = {}
        self._renewed_at = float("-inf")

    def hold(self, until: Mapping[int, float]) -> None:
        """Offer of these switches only the twins that were begun by the instant. Of others, offer all."""
        self._until = until
        self._renewed_at = monotonic()

    def now(self) -> Mapping[int, float]:
        """Return the instants, by switch."""
        return self._until if monotonic() - self._renewed_at < _LASTS_SECONDS else {}
