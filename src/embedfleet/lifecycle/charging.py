"""Charges a tenant for texts that are embedded at once, without a job."""

from __future__ import annotations

from sqlalchemy import Connection

from embedfleet import quota
from embedfleet.quota import Amount, Usage
from embedfleet.records import tenants, usage
from embedfleet.settings import TenantsSettings


def charge_texts(
    conn: Connection, settings: TenantsSettings, line: usage.Line, amount: Amount, now: float
) -> None:
    """Add the texts to the ledger of their tenant, in the transaction of this connection.

    Raises QuotaExceeded, and adds nothing, if the tenant's limits of a day do not allow them.
    """
    # The lock comes before the look: what is read stays current until the texts are added.
    tenants.lock(conn, [line.tenant])
    row = tenants.get_many(conn, [line.tenant])[line.tenant]
    today = usage.of_day(conn, [line.tenant], now).get(line.tenant, Amount())
    limits = quota.limits_of(settings, row.tier, row.limits)
    refused = quota.refusal(limits, Usage(0, today), amount, now)
    if refused is not None:
        raise refused.error(f"tenant `{line.tenant}`")
    usage.reserve(conn, {line: amount}, now)
