"""Changes of the traffic state that are in the audit log too, in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.clock import utc
from embedfleet.records import audit
from embedfleet.records.audit import Deed
from embedfleet.records.traffic import Change
from embedfleet.traffic.changes import change_state, state_of
from embedfleet.traffic.schemas import TrafficChange
from embedfleet.traffic.state import TrafficState


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, what it does, and why."""

    actor: str
    action: str
    reason: str | None


def change_and_audit(
    conn: Connection, before: TrafficState, after: TrafficState, author: Author, now: float
) -> TrafficState | None:
    """Put `after` in the place of `before`, and return it with its `change_id`.

    Returns None, and has changed nothing, if another change came first.
    """
    made = change_state(
        conn, before, after, actor=author.actor, action=author.action, reason=author.reason, now=now
    )
    if made is not None:
        details = {"change_id": made.change_id, "percent": made.percent}
        audit.add(conn, Deed(author.actor, f"traffic.{author.action}", None, details), now)
    return made


def described(change: Change) -> TrafficChange:
    """Return a change as people see it."""
    return TrafficChange(
        change_id=change.change_id,
        at=utc(change.at),
        actor=change.actor,
        action=change.action,
        reason=change.reason,
        state=state_of(change),
    )
