"""When a request is sent again, and after which pause. It is arithmetic only: it sends nothing."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from embedfleet.client.problems import is_problem
from embedfleet.client.steps import Ask
from embedfleet.errors import InvalidRequest

_ASKS_TO_WAIT = frozenset({409, 429, 503})
_FROM_A_PROXY = frozenset({502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0

# The request did not reach the server, so that any request may be sent again.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# The request itself is wrong.
_NEVER_SENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client tries. `seconds` is the most that it pauses for one operation, all pauses together.

    A server that asks for a longer pause gets no other try: the caller is told at once how long to wait.
    """

    tries: int = 5
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.tries < 1 or self.seconds < 0:
            raise InvalidRequest(
                f"patience: tries is {self.tries} and must be 1 or more, seconds is {self.seconds} and must "
                "not be negative"
            )

    def pause_seconds(
        self, ask: Ask, outcome: httpx.Response | httpx.RequestError, *, tried: int, paused: float
    ) -> float | None:
        """Return the pause before the request is sent again; None if it is not.

        `tried` counts the tries so far, `paused` is in seconds.
        """
        wanted = _wanted_seconds(ask, outcome, tried)
        if wanted is None or tried >= self.tries or paused + wanted > self.seconds:
            return None
        return wanted


def _wanted_seconds(ask: Ask, outcome: httpx.Response | httpx.RequestError, tried: int) -> float | None:
    doubled = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (tried - 1))
    if isinstance(outcome, httpx.RequestError):
        again = ask.repeatable or isinstance(outcome, _NOT_SENT)
        return doubled if again and not isinstance(outcome, _NEVER_SENT) else None
    asked = None if ask.waits_itself else _retry_after_seconds(outcome)
    if outcome.status_code in _ASKS_TO_WAIT and asked is not None:
        # Never at once: a server that says 0 would be asked in a tight loop.
        return max(asked, doubled)
    if outcome.status_code in _FROM_A_PROXY and ask.repeatable and not is_problem(outcome):
        return doubled
    return None


def _retry_after_seconds(response: httpx.Response) -> float | None:
    """Return what `Retry-After` says in seconds; None without it, or if it is a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
