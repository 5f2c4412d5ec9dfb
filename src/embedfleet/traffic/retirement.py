"""When the old path may be retired: every request went to the fleet for long enough, and none fell back."""

from __future__ import annotations

from sqlalchemy import Connection

from embedfleet.records import removals, traffic, traffic_counts
from embedfleet.records.traffic_counts import Counts
from embedfleet.traffic.changes import state_of
from embedfleet.traffic.paths import Path
from embedfleet.traffic.state import TrafficState

# The history is read in pages from its newest change. A state that held for a week is mostly in the first.
_PAGE = 100


def missing_for_retirement(
    conn: Connection, state: TrafficState, must_hold_seconds: float, now: float
) -> list[str]:
    """Return what keeps the old path from being retired, in words and numbers; nothing: it may be."""
    missing = []
    if state.percent < 100:
        missing.append(f"{state.percent:g}% and not 100% go to the fleet")
    denied = len(state.deny_tenants) + len(state.deny_content_types)
    if denied:
        missing.append(f"{denied} tenants or content types are denied the fleet")
    if state.running_plan is not None:
        missing.append("a plan is under way")
    since = _all_async_since(conn)
    held = 0.0 if since is None else now - since
    if held < must_hold_seconds:
        missing.append(f"100% has held for {_duration(held)} of {_duration(must_hold_seconds)}")
    new = traffic_counts.sums(conn, since=now - must_hold_seconds).get(Path.ASYNC, Counts())
    if new.requests == 0:
        missing.append(f"the fleet had no request within {_duration(must_hold_seconds)}")
    if new.fallbacks:
        missing.append(f"{new.fallbacks} requests fell back within {_duration(must_hold_seconds)}")
    # Its rows would be shown beside those of the fleet, by the readers that still use the old path's store.
    left = removals.numbers(conn).get(Path.SYNC, 0)
    if left:
        missing.append(f"{left} documents are still to be removed from the old path")
    return missing


def _all_async_since(conn: Connection) -> float | None:
    """Return since when, without a break, every request is decided for the fleet; None: that is not so."""
    since: float | None = None
    cursor: str | None = None
    while True:
        page = traffic.history(conn, limit=_PAGE, after=cursor)
        for change in page:
            if not state_of(change).is_all_async:
                return since
            since = change.at
        cursor = page.next_cursor
        if cursor is None:
            return since


def _duration(seconds: float) -> str:
    """Return a duration as people read it: in the greatest unit that it fills."""
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
