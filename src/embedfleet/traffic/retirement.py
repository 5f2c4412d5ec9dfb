"""The end of the old path: when it may be retired, and what it says then."""

from __future__ import annotations

import math

from sqlalchemy import Connection

from embedfleet.clock import utc
from embedfleet.errors import PathRetired, Remedy
from embedfleet.records import removals, traffic, traffic_counts
from embedfleet.records.traffic import Change
from embedfleet.records.traffic_counts import Counts
from embedfleet.traffic.changes import state_of
from embedfleet.traffic.counting import FOLDED_SECONDS, SLICE_SECONDS
from embedfleet.traffic.paths import Path
from embedfleet.traffic.state import TrafficState
from embedfleet.wording import number_of, readable_seconds

# The history is read in pages from its newest change. A state that held for a week is mostly in the first.
_PAGE = 100


def require_not_retired(state: TrafficState) -> None:
    """Raise PathRetired if the old path is retired."""
    if state.retirement is None:
        return
    since = _shown(state.retirement.at)
    until = _shown(state.retirement.final_at)
    raise PathRetired(
        f"the old path has been retired since {since} and ingests nothing: send the request to the fleet, or "
        f"restore the old path, which is possible until {until}",
        remedy=Remedy.RESTORE_OLD_PATH,
    )


def missing_for_retirement(
    conn: Connection, state: TrafficState, must_hold_seconds: float, now: float
) -> list[str]:
    """Return what keeps the old path from being retired, in words and numbers; nothing: it may be."""
    missing = []
    if state.percent < 100:
        missing.append(f"{state.percent:g}% and not 100% go to the fleet")
    denied = len(state.deny_tenants) + len(state.deny_content_types)
    if denied:
        verb = "is" if denied == 1 else "are"
        named = number_of(denied, "tenant or content type", "tenants or content types")
        missing.append(f"{named} {verb} denied the fleet")
    if state.running_plan is not None:
        missing.append("a plan is under way")
    first = _first_of_all_async(conn)
    held = 0.0 if first is None else now - first.at
    if held < must_hold_seconds:
        # Rounded down, so that what has not quite lasted long enough is not shown as if it had.
        so_far = readable_seconds(math.floor(held))
        missing.append(f"100% has held for {so_far} of {readable_seconds(must_hold_seconds)}")
    if first is not None:
        missing += _missing_answers(conn, first, now, must_hold_seconds)
    # Its rows would be shown beside those of the fleet, by the readers that still use the old path's store.
    left = removals.numbers(conn).get(Path.SYNC, 0)
    if left:
        verb = "is" if left == 1 else "are"
        missing.append(f"{number_of(left, 'document')} {verb} still to be removed from the old path")
    return missing


def _missing_answers(conn: Connection, first: Change, now: float, seconds: float) -> list[str]:
    """Say what of the answers of the last `seconds` is in the way, if decided under `first` or later."""
    # The slice in which that time begins counts too: it may have a fallback.
    slice_seconds = SLICE_SECONDS if seconds < FOLDED_SECONDS else FOLDED_SECONDS
    counts = traffic_counts.sums(conn, first_change=first.change_id, since=now - seconds - slice_seconds)
    window = readable_seconds(seconds)
    new, old = counts.get(Path.ASYNC, Counts()), counts.get(Path.SYNC, Counts())
    missing = []
    if new.requests == 0:
        missing.append(f"the fleet had no request within {window}")
    if new.fallbacks:
        missing.append(f"{number_of(new.fallbacks, 'request')} fell back within {window}")
    elif old.requests:
        missing.append(f"the old path had {number_of(old.requests, 'request')} within {window}")
    return missing


def _first_of_all_async(conn: Connection) -> Change | None:
    """Return the change since which, without a break, every request is decided for the fleet.

    None: requests are decided for the old path too.
    """
    first: Change | None = None
    cursor: str | None = None
    while True:
        page = traffic.history(conn, limit=_PAGE, after=cursor)
        for change in page:
            if not state_of(change).is_all_async:
                return first
            first = change
        cursor = page.next_cursor
        if cursor is None:
            return first


def _shown(at: float) -> str:
    return utc(at).isoformat(timespec="seconds")
