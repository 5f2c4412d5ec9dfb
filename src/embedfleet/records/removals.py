"""Removals that are still to be done: documents that one path answered for, so that the other must drop them.

A row is kept until its removal has succeeded, or until the path that it names has answered for the document
again. Many processes may do the work: before a process acts on a row, it claims it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, or_, select, update

from embedfleet.sql.traffic_tables import traffic_removals as table
from embedfleet.sql.upsert import upsert


class RemovalKey(NamedTuple):
    """A document, and the path that it is to be removed from (`sync` or `async`)."""

    tenant: str
    media_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that is to be done, not before `due_at`. Both instants are Unix times.

    With a `job_id`, it waits until readers see what that job of the fleet stores. `erases`: the document is
    to be on neither path; otherwise the other path has it.
    """

    key: RemovalKey
    requested_at: float
    due_at: float
    job_id: str | None = None
    erases: bool = False


class Unclaimed(Enum):
    """Why a removal was not claimed: there is none, or another caller has claimed it."""

    ABSENT = "absent"
    BUSY = "busy"


def keep(conn: Connection, removals: Iterable[Removal]) -> None:
    """Keep the removals. One of the same document and path is replaced, and its claim is over."""
    # In the order of their keys: two units that lock the same rows cannot wait for each other in a circle.
    for removal in sorted(removals, key=lambda removal: removal.key):
        values = {
            "requested_at": removal.requested_at,
            "due_at": removal.due_at,
            "claimed_until": None,
            "job_id": removal.job_id,
            "erases": removal.erases,
        }
        tenant, media_id, path = removal.key
        row = upsert(conn.dialect.name, table).values(tenant=tenant, media_id=media_id, path=path, **values)
        conn.execute(row.on_conflict_do_update(index_elements=["tenant_id", "media_id", "path"], set_=values))


def due(conn: Connection, *, now: float, limit: int) -> list[Removal]:
    """Return up to `limit` removals that are due and that no caller has claimed, the longest due first."""
    query = select(*_COLUMNS).where(table.c.due_at <= now, _free(now)).order_by(table.c.due_at)
    return [_removal(row) for row in conn.execute(query.limit(limit)).mappings()]


def claim(conn: Connection, key: RemovalKey, *, now: float, until: float) -> Removal | Unclaimed:
    """Claim one removal until the instant `until`, due or not. Return it, or why it was not claimed."""
    row = (
        conn.execute(select(*_COLUMNS, table.c.claimed_until).where(_is(key)).with_for_update())
        .mappings()
        .first()
    )
    if row is None:
        return Unclaimed.ABSENT
    if row["claimed_until"] is not None and row["claimed_until"] > now:
        return Unclaimed.BUSY
    conn.execute(update(table).where(_is(key)).values(claimed_until=until))
    return _removal(row)


def put_off(conn: Connection, removal: Removal, due_at: float) -> None:
    """Give up the claim: the removal is due again at `due_at`. One that was kept again stays as it is."""
    conn.execute(update(table).where(_is_same(removal)).values(due_at=due_at, claimed_until=None))


def drop(conn: Connection, removals: Iterable[Removal]) -> None:
    """Forget removals that are done, or needed no more. One that was kept again since stays."""
    for removal in sorted(removals, key=lambda removal: removal.key):
        conn.execute(delete(table).where(_is_same(removal)))


def drop_answered(conn: Connection, answered: Mapping[RemovalKey, float]) -> None:
    """Forget the removals of documents for which their path has answered at that instant, or later."""
    for key in sorted(answered):
        conn.execute(delete(table).where(_is(key), table.c.requested_at <= answered[key]))


def numbers(conn: Connection) -> dict[str, int]:
    """Count the removals that are still to be done, by path. A path without any is left out."""
    query = select(table.c.path, func.count()).group_by(table.c.path)
    return {path: int(number) for path, number in conn.execute(query)}


_COLUMNS = (
    table.c.tenant,
    table.c.media_id,
    table.c.path,
    table.c.requested_at,
    table.c.due_at,
    table.c.job_id,
    table.c.erases,
)


def _removal(row: RowMapping) -> Removal:
    key = RemovalKey(row["tenant"], row["media_id"], row["path"])
    return Removal(key, row["requested_at"], row["due_at"], row["job_id"], row["erases"])


def _is(key: RemovalKey) -> ColumnElement[bool]:
    return and_(table.c.tenant == key.tenant, table.c.media_id == key.media_id, table.c.path == key.path)


def _is_same(removal: Removal) -> ColumnElement[bool]:
    return and_(_is(removal.key), table.c.requested_at == removal.requested_at)


def _free(now: float) -> ColumnElement[bool]:
    return or_(table.c.claimed_until.is_(None), table.c.claimed_until <= now)
