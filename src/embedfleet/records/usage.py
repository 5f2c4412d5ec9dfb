"""The ledger: what tenants submitted, by UTC day, model and API key.

What is enforced, shown and billed are these rows. The transaction that admits something adds it to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache

from sqlalchemy import Connection, Executable, bindparam, func, select

from embedfleet.clock import utc
from embedfleet.quota import Amount as Amount
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import usage
from embedfleet.sql.upsert import upsert


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """Which row of a day an amount belongs to. `api_key` is the prefix of the key; empty without one."""

    tenant: str
    model: str = ""
    api_key: str = ""


def of_day(conn: Connection, tenants: Sequence[str], now: float) -> dict[str, Amount]:
    """Return what each of these tenants has submitted on the UTC day of `now`, over all models and keys.

    A tenant that has submitted nothing is left out.
    """
    found: dict[str, Amount] = {}
    for names in key_pages(tenants):
        for row in conn.execute(_OF_DAY, {"tenants": names, "today": utc_day(now)}):
            found[row.tenant] = Amount(**{name: int(getattr(row, name)) for name in _COUNTED})
    return found


def reserve(conn: Connection, amounts: Mapping[Line, Amount], now: float) -> None:
    """Add each amount to its line on the UTC day of `now`."""
    day = utc_day(now)
    rows = [asdict(line) | asdict(amount) | {"day": day} for line, amount in sorted(amounts.items())]
    if rows:
        conn.execute(_reserve(conn.dialect.name), rows)


def between(conn: Connection, scope: Scope, first_day: str, last_day: str) -> list[tuple[str, Line, Amount]]:
    """Return the rows of the ledger within the scope from the first day to the last, both included.

    They come by day, tenant, model and key.
    """
    query = (
        select(usage)
        .where(scope.rows(usage.c.tenant), usage.c.day >= first_day, usage.c.day <= last_day)
        .order_by(usage.c.day, usage.c.tenant, usage.c.model, usage.c.api_key)
    )
    return [
        (
            row["day"],
            Line(row["tenant"], row["model"], row["api_key"]),
            Amount(**{name: row[name] for name in _COUNTED}),
        )
        for row in conn.execute(query).mappings()
    ]


def utc_day(now: float) -> str:
    """Return the UTC day of a Unix time, as YYYY-MM-DD."""
    return utc(now).date().isoformat()


_COUNTED = tuple(field.name for field in fields(Amount))

_OF_DAY = (
    select(usage.c.tenant, *(func.sum(usage.c[name]).label(name) for name in _COUNTED))
    .where(usage.c.tenant.in_(bindparam("tenants", expanding=True)), usage.c.day == bindparam("today"))
    .group_by(usage.c.tenant)
)


@cache
def _reserve(dialect: str) -> Executable:
    statement = upsert(dialect, usage)
    more = {name: usage.c[name] + statement.excluded[name] for name in _COUNTED}
    return statement.on_conflict_do_update(index_elements=["tenant_id", "day", "model", "api_key"], set_=more)
