"""Shadow runs and examples of the differences that they found. One run goes on at a time.

What a rule and what findings say is text here: `traffic.shadow_schemas` reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from embedfleet.records.cursors import Listing, Page
from embedfleet.sql.paging import key_pages
from embedfleet.sql.traffic_tables import shadow_differences, shadows
from embedfleet.sql.upsert import upsert

_LISTING = Listing("shadows", (float, str))


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """A shadow run. Instants are Unix times. `ended_at`, `verdict` and `reason` are None while it runs.

    `erased_at`: when the deletion of its documents was requested; None before.
    """

    shadow_id: str
    owner: str
    rule: str
    begun_at: float
    expires_at: float
    ended_at: float | None
    verdict: str | None
    reason: str | None
    erased_at: float | None
    findings: str


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A difference of one request. `details` are ids and numbers, as JSON, and never text of a document."""

    at: float
    tenant: str
    media_id: str
    kind: str
    details: str


def begin(conn: Connection, new: ShadowRow) -> bool:
    """Write a run that begins. Return False if another one goes on: then nothing is written."""
    row = upsert(conn.dialect.name, shadows).values(
        shadow_id=new.shadow_id,
        owner=new.owner,
        rule=new.rule,
        begun_at=new.begun_at,
        expires_at=new.expires_at,
        running=1,
        findings=new.findings,
    )
    unless_running = row.on_conflict_do_nothing(index_elements=["running"])
    return conn.execute(unless_running.returning(shadows.c.shadow_id)).first() is not None


def running(conn: Connection) -> ShadowRow | None:
    """Return the run that goes on; None if none does."""
    return _one(conn, _ROWS.where(shadows.c.running == 1))


def get(conn: Connection, shadow_id: str) -> ShadowRow | None:
    """Return the run with this id; None if there is none."""
    return _one(conn, _ROWS.where(shadows.c.shadow_id == shadow_id))


def page(conn: Connection, *, limit: int, after: str | None) -> Page[ShadowRow]:
    """Return up to `limit` runs, newest first. `after` is the cursor of the page before."""
    query = _ROWS.order_by(shadows.c.begun_at.desc(), shadows.c.shadow_id)
    if after is not None:
        at, shadow_id = _LISTING.key_after(after)
        is_later = (shadows.c.begun_at < at) | (
            (shadows.c.begun_at == at) & (shadows.c.shadow_id > shadow_id)
        )
        query = query.where(is_later)
    found = [ShadowRow(*row) for row in conn.execute(query.limit(limit + 1))]
    return _LISTING.page(found, limit, lambda one: (one.begun_at, one.shadow_id))


def add_findings(conn: Connection, shadow_id: str, added_to: Callable[[str], str]) -> bool:
    """Replace the findings of a run by what the function makes of them. Return False if the run has ended.

    The row is locked: of two processes that add at the same time, both count.
    """
    row = _one(conn, _ROWS.where(shadows.c.shadow_id == shadow_id, shadows.c.running == 1).with_for_update())
    if row is None:
        return False
    change = update(shadows).where(shadows.c.shadow_id == shadow_id)
    conn.execute(change.values(findings=added_to(row.findings)))
    return True


def add_examples(
    conn: Connection, shadow_id: str, found: Sequence[DifferenceRow], *, most_of_a_kind: int
) -> None:
    """Keep the differences as examples, up to that number of each kind. The row of the run is locked."""
    column = shadow_differences.c.kind
    of_run = select(column, func.count()).where(shadow_differences.c.shadow_id == shadow_id)
    kept = Counter({kind: int(number) for kind, number in conn.execute(of_run.group_by(column))})
    rows = []
    for one in found:
        if kept[one.kind] < most_of_a_kind:
            kept[one.kind] += 1
            rows.append(
                {
                    "shadow_id": shadow_id,
                    "at": one.at,
                    "tenant": one.tenant,
                    "media_id": one.media_id,
                    "kind": one.kind,
                    "details": one.details,
                }
            )
    if rows:
        conn.execute(insert(shadow_differences), rows)


def examples(conn: Connection, shadow_id: str) -> list[DifferenceRow]:
    """Return the examples of a run, oldest first."""
    table = shadow_differences.c
    query = select(table.at, table.tenant, table.media_id, table.kind, table.details)
    rows = conn.execute(query.where(table.shadow_id == shadow_id).order_by(table.difference_id))
    return [DifferenceRow(*row) for row in rows]


def forget_documents(conn: Connection, tenant: str, media_ids: Sequence[str]) -> None:
    """Drop the examples that name these documents of the tenant."""
    table = shadow_differences.c
    for some in key_pages(media_ids):
        conn.execute(delete(shadow_differences).where(table.tenant == tenant, table.media_id.in_(some)))


def end(conn: Connection, shadow_id: str, *, verdict: str, reason: str, now: float) -> bool:
    """End a run. Return False if it had ended before, and change nothing then."""
    change = update(shadows).where(shadows.c.shadow_id == shadow_id, shadows.c.running == 1)
    values = {"running": None, "ended_at": now, "verdict": verdict, "reason": reason}
    return bool(conn.execute(change.values(values)).rowcount)


def to_erase(conn: Connection, *, ended_before: float) -> list[str]:
    """Return the runs that ended before this instant and whose documents are still to be deleted."""
    query = select(shadows.c.shadow_id).where(
        shadows.c.erased_at.is_(None), shadows.c.ended_at <= ended_before
    )
    return list(conn.execute(query).scalars())


def note_erased(conn: Connection, shadow_id: str, now: float) -> None:
    """Record that the deletion of the run's documents was requested."""
    conn.execute(update(shadows).where(shadows.c.shadow_id == shadow_id).values(erased_at=now))


_ROWS: Select[Any] = select(
    shadows.c.shadow_id,
    shadows.c.owner,
    shadows.c.rule,
    shadows.c.begun_at,
    shadows.c.expires_at,
    shadows.c.ended_at,
    shadows.c.verdict,
    shadows.c.reason,
    shadows.c.erased_at,
    shadows.c.findings,
)


def _one(conn: Connection, query: Select[Any]) -> ShadowRow | None:
    row = conn.execute(query).first()
    return None if row is None else ShadowRow(*row)
