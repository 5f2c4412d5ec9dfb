"""Marks: what decides which spaces answer a tenant's queries, as one value that can be compared.

A search decides where it looks, and finds its rows some steps later. In the meantime another space may be
filled with copies, or emptied. So a search takes the mark with its decision, and once more when it has all
of its rows. If both are equal, nothing has begun or ended in between, and the decision held for every row:
numbers of switches only grow, a switch that has become no trial never becomes one again, and what is emptied
is never served again. Only the share of queries may come back to what it was, and both sides of a switch may
answer then.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from embedfleet.sql.model_tables import model_switches
from embedfleet.sql.tables import collections


@dataclass(frozen=True, slots=True)
class ScopeMark:
    """The ids of a tenant's collections, and the newest of its switches to another model, if it had any.

    A new collection counts, as a document that moves there is in none of those that a search knows.
    """

    collections: frozenset[int]
    switch_id: int | None = None
    phase: str | None = None
    percent: float | None = None
    trial_of: str | None = None


def mark_of(conn: Connection, tenant: str) -> ScopeMark:
    """Return the mark of a tenant as it is now. The cost does not grow with the tenant's documents."""
    mine = frozenset(conn.execute(_COLLECTIONS, {"tenant": tenant}).scalars())
    newest = conn.execute(_NEWEST_SWITCH, {"tenant": tenant}).one_or_none()
    return ScopeMark(mine) if newest is None else ScopeMark(mine, *newest)


_COLLECTIONS = select(collections.c.collection_id).where(collections.c.tenant == bindparam("tenant"))

_NEWEST_SWITCH = (
    select(
        model_switches.c.switch_id,
        model_switches.c.phase,
        model_switches.c.percent,
        model_switches.c.trial_of,
    )
    .where(model_switches.c.tenant == bindparam("tenant"))
    .order_by(model_switches.c.switch_id.desc())
    .limit(1)
)
