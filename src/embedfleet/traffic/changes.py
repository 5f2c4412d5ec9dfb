"""Reads and changes the traffic state in SQL, as units of a transaction."""

from __future__ import annotations

from sqlalchemy import Connection

from embedfleet.records import traffic
from embedfleet.records.traffic import Change
from embedfleet.traffic.state import NOTHING_MOVED, TrafficState


def state_of(change: Change | None) -> TrafficState:
    """Return the state that a change made; None: the state before the first change."""
    return NOTHING_MOVED if change is None else TrafficState.model_validate_json(change.state)


def present_state(conn: Connection) -> TrafficState:
    """Return the state that holds now."""
    return state_of(traffic.newest(conn))


def change_state(
    conn: Connection,
    before: TrafficState,
    after: TrafficState,
    *,
    actor: str,
    action: str,
    reason: str | None,
    now: float,
) -> TrafficState | None:
    """Put `after` in the place of `before`, and return it with its `change_id`.

    Return None if `before` does not hold any more: another change came first, and this one did nothing.
    """
    numbered = after.model_copy(update={"change_id": before.change_id + 1})
    change = Change(numbered.change_id, now, actor, action, reason, numbered.model_dump_json())
    return numbered if traffic.append(conn, change) else None
