"""Records why a part of the process waits. Other parts can read the reason, and the log has it once.

Many parts of a process wait for the same service: each duty of the leader, each loop of a worker. The log
says once that the service is away, and once that the last of them goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from loguru import logger

from embedfleet.errors import BrokerUnavailable, DatabaseUnavailable, EmbedfleetError, VectorStoreUnavailable

if TYPE_CHECKING:
    from loguru import Logger

# A process has one of each of these services. Its failures have different words, but one cause.
_SERVICES: dict[type[EmbedfleetError], str] = {
    DatabaseUnavailable: "the database",
    BrokerUnavailable: "the broker",
    VectorStoreUnavailable: "the vector store",
}


@dataclass(slots=True)
class _Outage:
    """A service that is away, and the parts of this process that wait for it."""

    since: float
    waiting: set[int] = field(default_factory=set)


_Cause = type[EmbedfleetError] | str

_outages: dict[_Cause, _Outage] = {}
"""The outages of this process: the log is the process's too."""


class Trouble:
    """The failure that keeps one part of the process from its work now, if there is one.

    `note` logs the failure and `clear` logs that it is over, but only once for all parts of the process that
    have the same trouble. Belongs to one event loop.
    """

    def __init__(self, *, log: Logger = logger, over: str = "it goes on") -> None:
        """`over` is the text in the log when a trouble is over that is not a service's absence."""
        self._log = log
        self._over = over
        self.failure: EmbedfleetError | None = None
        # What this part has waited for since it last worked, by class of failure. Two services may be away by
        # turns. A failure that comes again with other words (a duration, a port) is still the same trouble.
        self._waited_for: dict[type[EmbedfleetError], _Cause] = {}

    def note(self, failure: EmbedfleetError) -> None:
        """Record that the work waits because of this failure."""
        self.failure = failure
        cause = self._waited_for.setdefault(type(failure), _cause(failure))
        if cause not in _outages:
            _outages[cause] = _Outage(monotonic())
            self._log.warning("waiting: {}", failure)
        _outages[cause].waiting.add(id(self))

    def clear(self) -> None:
        """Record that the work goes on. Do nothing if no failure was noted."""
        self.failure = None
        for cause, outage in self._leave():
            service = None if isinstance(cause, str) else _SERVICES[cause]
            over = self._over if service is None else f"{service} answers again"
            self._log.info("{}, after {:.1f} s", over, monotonic() - outage.since)

    def _leave(self) -> list[tuple[_Cause, _Outage]]:
        """Wait no longer. Returns the outages that are over: no part of the process waits for them now."""
        left = [(cause, _outages[cause]) for cause in set(self._waited_for.values())]
        self._waited_for = {}
        for _, outage in left:
            outage.waiting.discard(id(self))
        over = [(cause, outage) for cause, outage in left if not outage.waiting]
        for cause, _ in over:
            del _outages[cause]
        return over

    def __del__(self) -> None:
        """A part that ends while it waits no longer keeps its outage from being over."""
        self._leave()


def _cause(failure: EmbedfleetError) -> _Cause:
    """Return what failures with one cause have in common: the service, or else their words."""
    kind = type(failure)
    return kind if kind in _SERVICES else str(failure)
