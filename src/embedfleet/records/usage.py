"""What each tenant used, by day, and the tier it was last seen with."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, select

from embedfleet.queue_schemas import UserTier
from embedfleet.sql.tables import tenants, usage
from embedfleet.sql.upsert import upsert


def set_tier(conn: Connection, tenant: str, tier: UserTier) -> None:
    """Remember the tier. Until the unit ends no other admits anything of the tenant, so that what it counts
    against the quota stays true."""
    statement = upsert(conn.dialect.name, tenants).values(tenant=tenant, tier=tier)
    conn.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"tier": tier}))


def tiers(conn: Connection) -> dict[str, UserTier]:
    """Every known tenant's tier."""
    return {row.tenant: UserTier(row.tier) for row in conn.execute(select(tenants))}


def chars_used(conn: Connection, tenant: str, now: float) -> int:
    """Characters the tenant submitted on the UTC day of `now`."""
    query = select(usage.c.chars).where(usage.c.tenant == tenant, usage.c.day == utc_day(now))
    return int(conn.execute(query).scalar() or 0)


def reserve(conn: Connection, tenant: str, chars: int, now: float, *, jobs: int = 1) -> None:
    """Count so many jobs, of `chars` characters together, against the day."""
    statement = upsert(conn.dialect.name, usage).values(
        tenant=tenant, day=utc_day(now), chars=chars, jobs=jobs
    )
    more = {"chars": usage.c.chars + chars, "jobs": usage.c.jobs + jobs}
    conn.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "day"], set_=more))


def utc_day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()
