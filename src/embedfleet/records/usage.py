"""The daily usage of each tenant, and the tier of its latest submission."""

from __future__ import annotations

from sqlalchemy import Connection, select

from embedfleet.clock import utc
from embedfleet.queue_schemas import UserTier
from embedfleet.sql.tables import tenants, usage
from embedfleet.sql.upsert import upsert


def set_tier(conn: Connection, tenant: str, tier: UserTier) -> None:
    """Record the tier of a tenant, and lock the tenant's row until the transaction ends.

    Because of the lock, no other transaction admits a document of the tenant, and the usage that this one
    reads for the quota stays current.
    """
    statement = upsert(conn.dialect.name, tenants).values(tenant=tenant, tier=tier)
    conn.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"tier": tier}))


def tiers(conn: Connection) -> dict[str, UserTier]:
    """Return the tier of every known tenant."""
    return {row.tenant: UserTier(row.tier) for row in conn.execute(select(tenants))}


def chars_used(conn: Connection, tenant: str, now: float) -> int:
    """Return how many characters the tenant has submitted on the UTC day of `now`."""
    query = select(usage.c.chars).where(usage.c.tenant == tenant, usage.c.day == utc_day(now))
    return int(conn.execute(query).scalar() or 0)


def reserve(conn: Connection, tenant: str, chars: int, now: float, *, jobs: int = 1) -> None:
    """Add `jobs` jobs with `chars` characters in all to the tenant's usage on the UTC day of `now`."""
    statement = upsert(conn.dialect.name, usage).values(
        tenant=tenant, day=utc_day(now), chars=chars, jobs=jobs
    )
    more = {"chars": usage.c.chars + chars, "jobs": usage.c.jobs + jobs}
    conn.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "day"], set_=more))


def utc_day(now: float) -> str:
    """Return the UTC day of a Unix time, as YYYY-MM-DD."""
    return utc(now).date().isoformat()
