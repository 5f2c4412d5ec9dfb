"""The daily usage of each tenant, and the tier of its latest submission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, Executable, bindparam, func, select

from embedfleet.clock import utc
from embedfleet.queue_schemas import UserTier
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import tenants as tenant_table
from embedfleet.sql.tables import usage
from embedfleet.sql.upsert import upsert


@dataclass(frozen=True, slots=True)
class Amount:
    """Submitted jobs, and the characters of their documents."""

    jobs: int
    chars: int


def set_tiers(conn: Connection, given: Mapping[str, UserTier]) -> None:
    """Record the tiers of these tenants, and lock the tenants' rows until the transaction ends.

    Because of the locks, no other transaction admits a document of these tenants, and the usage that this one
    reads for the quota stays current.
    """
    # Rows are locked in the order of the tenants, as all units do (`document_lock`).
    rows = [{"tenant": tenant, "tier": tier} for tenant, tier in sorted(given.items())]
    if rows:
        conn.execute(_set_tiers(conn.dialect.name), rows)


def tiers(conn: Connection) -> dict[str, UserTier]:
    """Return the tier of every known tenant."""
    known = select(tenant_table).where(tenant_table.c.tier.is_not(None))
    return {row.tenant: UserTier(row.tier) for row in conn.execute(known)}


def chars_used(conn: Connection, tenants: Sequence[str], now: float) -> dict[str, int]:
    """Return how many characters each of these tenants has submitted on the UTC day of `now`.

    A tenant that has submitted none is left out.
    """
    found: dict[str, int] = {}
    for ids in key_pages(tenants):
        for row in conn.execute(_USED, {"tenants": ids, "today": utc_day(now)}):
            found[row.tenant] = int(row.chars)
    return found


def reserve(conn: Connection, amounts: Mapping[str, Amount], now: float) -> None:
    """Add each tenant's amount to its usage on the UTC day of `now`."""
    day = utc_day(now)
    rows = [
        {
            "tenant": tenant,
            "day": day,
            "model": "",
            "api_key": "",
            "chars": amount.chars,
            "bytes": 0,
            "tokens": 0,
            "jobs": amount.jobs,
            "texts": 0,
        }
        for tenant, amount in sorted(amounts.items())
    ]
    if rows:
        conn.execute(_reserve(conn.dialect.name), rows)


def utc_day(now: float) -> str:
    """Return the UTC day of a Unix time, as YYYY-MM-DD."""
    return utc(now).date().isoformat()


_USED = (
    select(usage.c.tenant, func.sum(usage.c.chars).label("chars"))
    .where(usage.c.tenant.in_(bindparam("tenants", expanding=True)), usage.c.day == bindparam("today"))
    .group_by(usage.c.tenant)
)


@cache
def _set_tiers(dialect: str) -> Executable:
    statement = upsert(dialect, tenant_table)
    return statement.on_conflict_do_update(
        index_elements=["tenant_id"], set_={"tier": statement.excluded.tier}
    )


@cache
def _reserve(dialect: str) -> Executable:
    statement = upsert(dialect, usage)
    more = {
        "chars": usage.c.chars + statement.excluded.chars,
        "jobs": usage.c.jobs + statement.excluded.jobs,
    }
    return statement.on_conflict_do_update(index_elements=["tenant_id", "day", "model", "api_key"], set_=more)
