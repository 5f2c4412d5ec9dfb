"""The changes of what decides which path a request goes. The newest change holds; none is ever dropped.

The state of a change is text here: `traffic.state` says what it means.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from embedfleet.records.cursors import Listing, Page
from embedfleet.sql.traffic_tables import traffic_changes
from embedfleet.sql.upsert import upsert

_LISTING = Listing("traffic history", (int,))


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was made. `change_id` counts the changes from 1, without gaps.

    `at` is a Unix time. `actor` is the prefix of a key, `local` (see `records.audit`) or `guard`. `state` is
    the state after the change, as JSON.
    """

    change_id: int
    at: float
    actor: str
    action: str
    reason: str | None
    state: str


def newest(conn: Connection) -> Change | None:
    """Return the change that holds; None if nothing was ever changed."""
    row = conn.execute(select(traffic_changes).order_by(traffic_changes.c.change_id.desc()).limit(1)).first()
    return None if row is None else Change(*row)


def changes_after(conn: Connection, change_id: int, limit: int) -> list[Change]:
    """Return up to `limit` changes above this number, oldest first. Above 0 are all."""
    query = select(traffic_changes).where(traffic_changes.c.change_id > change_id)
    return [Change(*row) for row in conn.execute(query.order_by(traffic_changes.c.change_id).limit(limit))]


def history(conn: Connection, *, limit: int, after: str | None) -> Page[Change]:
    """Return up to `limit` changes, newest first. `after` is the cursor of the page before."""
    query = select(traffic_changes).order_by(traffic_changes.c.change_id.desc())
    if after is not None:
        query = query.where(traffic_changes.c.change_id < _LISTING.key_after(after)[0])
    found = [Change(*row) for row in conn.execute(query.limit(limit + 1))]
    return _LISTING.page(found, limit, lambda change: (change.change_id,))


def append(conn: Connection, change: Change) -> bool:
    """Record the change that follows the newest one. Return False if another change has come before it.

    It is a compare-and-set: the change that its writer looked at has the number `change.change_id - 1`. Of
    two writers that looked at the same change, the primary key lets one through. A unit that is repeated
    after a lost connection may find its own change there and return False.
    """
    known = newest(conn)
    if change.change_id != (0 if known is None else known.change_id) + 1:
        return False
    record = upsert(conn.dialect.name, traffic_changes).values(
        change_id=change.change_id,
        at=change.at,
        actor=change.actor,
        action=change.action,
        reason=change.reason,
        state=change.state,
    )
    # PostgreSQL waits here for a concurrent writer of the same number, and then does nothing.
    unless_taken = record.on_conflict_do_nothing(index_elements=["change_id"])
    return conn.execute(unless_taken.returning(traffic_changes.c.change_id)).first() is not None
