"""Which requests of an application go to the fleet. For operators.

The contracts are those of `traffic.administration.TrafficAdministration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import record
from embedfleet.client.lines import EventReader
from embedfleet.client.steps import Ask, Flow, Give, NextLine, Open, Pause, Steps
from embedfleet.records.cursors import Page
from embedfleet.traffic.orders import StickyBy
from embedfleet.traffic.schemas import TrafficChange, TrafficStatus
from embedfleet.traffic.state import TrafficState

# A stream that ends is opened again after this pause. A server that stops takes some seconds to start.
_PAUSE_SECONDS = 0.5


def traffic_status(*, window_seconds: float | None = None) -> Steps[TrafficStatus]:
    """Return which requests go where, since when and why, and how both paths answer.

    The figures of the paths are of the last `window_seconds`; None: as the server has it.
    """
    return record(TrafficStatus, (yield Ask("GET", "/v1/traffic", params={"window_seconds": window_seconds})))


def set_traffic(
    *,
    percent: float | None = None,
    sticky_by: StickyBy | None = None,
    allow_tenants: Iterable[str] | None = None,
    deny_tenants: Iterable[str] | None = None,
    allow_content_types: Iterable[str] | None = None,
    deny_content_types: Iterable[str] | None = None,
    reason: str | None = None,
    expected_change_id: int | None = None,
) -> Steps[TrafficState]:
    """Set the percentage, what it is sticky by, or lists. Raises InvalidRequest, NotReady."""
    said = {
        "percent": percent,
        "sticky_by": sticky_by,
        "allow_tenants": _names(allow_tenants),
        "deny_tenants": _names(deny_tenants),
        "allow_content_types": _names(allow_content_types),
        "deny_content_types": _names(deny_content_types),
        "reason": reason,
        "expected_change_id": expected_change_id,
    }
    # A repetition with `expected_change_id` would find its own change and be refused.
    ask = Ask("PATCH", "/v1/traffic", json=_known(said), repeats=expected_change_id is None)
    return record(TrafficState, (yield ask))


def plan_traffic(
    steps: Sequence[float],
    *,
    hold_seconds: float,
    max_error_rate: float,
    max_p99_ratio: float,
    reason: str | None = None,
) -> Steps[TrafficState]:
    """Begin to climb by these percentages. Raises InvalidRequest, NotReady."""
    said = {
        "steps": list(steps),
        "hold_seconds": hold_seconds,
        "max_error_rate": max_error_rate,
        "max_p99_ratio": max_p99_ratio,
    }
    return (yield from _change("plan", reason, **said))


def pause_traffic(*, reason: str | None = None) -> Steps[TrafficState]:
    """Let the plan stay at its present step. Raises NotReady if no plan is under way."""
    return (yield from _change("pause", reason))


def resume_traffic(*, reason: str | None = None) -> Steps[TrafficState]:
    """Let a paused plan go on. Raises NotReady if no plan is under way."""
    return (yield from _change("resume", reason))


def rollback_traffic(*, reason: str | None = None) -> Steps[TrafficState]:
    """Send every request the old way. Raises NotReady while the old path is retired."""
    return (yield from _change("rollback", reason))


def retire_old_path(
    *,
    after_seconds: float | None = None,
    restorable_seconds: float | None = None,
    reason: str | None = None,
) -> Steps[TrafficState]:
    """Retire the old path, if every request went to the fleet for long enough. None: as the server has it.

    Raises NotReady, with all that is missing.
    """
    said = {"after_seconds": after_seconds, "restorable_seconds": restorable_seconds}
    return (yield from _change("retire", reason, **said))


def restore_old_path(*, reason: str | None = None) -> Steps[TrafficState]:
    """Take the old path back into use. Raises NotReady if that is not possible."""
    return (yield from _change("restore", reason))


def traffic_history(*, limit: int = 100, after: str | None = None) -> Steps[Page[TrafficChange]]:
    """Return up to `limit` changes, newest first.

    For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
    """
    return (yield from listed(TrafficChange, "/v1/traffic/history", "changes", limit=limit, after=after))


def follow_traffic(*, after: int = 0) -> Flow[TrafficChange]:
    """Give the changes above this number, then each new one. It never ends by itself.

    When the stream ends, because the server stops or the connection breaks, it is resumed where it was.
    Raises ServerUnavailable if the server stays away.
    """
    number = after
    while True:
        headers = {"Accept": "text/event-stream"}
        yield Open(Ask("GET", "/v1/traffic/events", params={"after": number}, headers=headers))
        reader = EventReader()
        while isinstance(line := (yield NextLine()), str):
            event = reader.take(line)
            if event is not None and event.name == "changed":
                found = TrafficChange.model_validate_json(event.data, extra="ignore")
                number = found.change_id
                yield Give([found])
        yield Pause(_PAUSE_SECONDS)


def _change(verb: str, reason: str | None, **said: Any) -> Steps[TrafficState]:
    # Not repeated: a second one may find another state, and would change that.
    ask = Ask("POST", f"/v1/traffic:{verb}", json=_known({**said, "reason": reason}))
    return record(TrafficState, (yield ask))


def _names(given: Iterable[str] | None) -> list[str] | None:
    return None if given is None else sorted(given)


def _known(said: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in said.items() if one is not None}
