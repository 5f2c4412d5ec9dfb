"""Tenants: the tier of each, and its own limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, select, update

from embedfleet.queue_schemas import UserTier
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.routing.choice import NOTHING_OWN, TenantRouting
from embedfleet.settings import RoutingRule, RoutingRules
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import tenants
from embedfleet.sql.upsert import upsert

_LISTING = Listing("tenants", (str,))


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant. `tier` is None if none was set. `limits` are those that differ from its tier's, by name.

    `routing` has the tenant's own rules and its own model.
    """

    tenant: str
    tier: UserTier | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    routing: TenantRouting = NOTHING_OWN


def lock(conn: Connection, names: Iterable[str]) -> None:
    """Lock the rows of these tenants until the transaction ends, and make those that do not exist.

    Because of the locks, no other transaction admits anything of these tenants, and the usage that this one
    reads for the quota stays current.
    """
    # Rows are locked in the order of the tenants, as all units do (`document_lock`).
    rows = [{"tenant": name} for name in sorted(set(names))]
    if rows:
        conn.execute(_lock(conn.dialect.name), rows)


def get_many(conn: Connection, names: Sequence[str]) -> dict[str, TenantRow]:
    """Return these tenants by name. One without a row is left out."""
    found: dict[str, TenantRow] = {}
    for page in key_pages(names):
        for row in conn.execute(_SOME, {"names": page}):
            found[row.tenant] = _tenant(row)
    return found


def get_all(conn: Connection) -> list[TenantRow]:
    """Return every known tenant, by name."""
    return [_tenant(row) for row in conn.execute(select(tenants).order_by(tenants.c.tenant))]


def page(conn: Connection, scope: Scope, *, limit: int, after: str | None) -> Page[TenantRow]:
    """Return up to `limit` known tenants within the scope, by name."""
    query = select(tenants).where(scope.rows(tenants.c.tenant)).order_by(tenants.c.tenant).limit(limit + 1)
    if after is not None:
        query = query.where(tenants.c.tenant > _LISTING.key_after(after)[0])
    found = [_tenant(row) for row in conn.execute(query)]
    return _LISTING.page(found, limit, lambda one: (one.tenant,))


def set_tiers(conn: Connection, tiers: Mapping[str, UserTier]) -> None:
    """Record the tiers of these tenants, whose rows are locked."""
    rows = [{"name": name, "tier": tier} for name, tier in sorted(tiers.items())]
    if rows:
        changed = update(tenants).where(tenants.c.tenant == bindparam("name"))
        conn.execute(changed.values(tier=bindparam("tier")), rows)


def set_limits(conn: Connection, name: str, limits: Mapping[str, Any]) -> None:
    """Record the own limits of this tenant, whose row is locked, in place of those it had."""
    written = json.dumps(dict(limits), sort_keys=True) if limits else None
    conn.execute(update(tenants).where(tenants.c.tenant == name).values(limits=written))


def set_rules(conn: Connection, name: str, rules: Sequence[RoutingRule]) -> None:
    """Record the rules of routing of this tenant, whose row is locked, in place of those it had."""
    written = RoutingRules(rules=tuple(rules)).model_dump_json(exclude_defaults=True) if rules else None
    conn.execute(update(tenants).where(tenants.c.tenant == name).values(rules=written))


def set_model(conn: Connection, name: str, model: str | None) -> None:
    """Record the own model of this tenant, whose row is locked; None: it has the default one."""
    conn.execute(update(tenants).where(tenants.c.tenant == name).values(model=model))


def _tenant(row: Any) -> TenantRow:
    tier = None if row.tier is None else UserTier(row.tier)
    limits = json.loads(row.limits) if row.limits else {}
    return TenantRow(row.tenant, tier, limits, _routing(row.model, row.rules))


@lru_cache(maxsize=1024)
def _routing(model: str | None, written_rules: str | None) -> TenantRouting:
    """Return what the two columns say. It is kept, as each submission reads it twice."""
    if written_rules is None:
        return NOTHING_OWN if model is None else TenantRouting(model=model)
    return TenantRouting(RoutingRules.model_validate_json(written_rules).rules, model)


_SOME = select(tenants).where(tenants.c.tenant.in_(bindparam("names", expanding=True)))


@cache
def _lock(dialect: str) -> Executable:
    statement = upsert(dialect, tenants)
    # The row is written as it is: `DO NOTHING` would not lock it.
    return statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"tier": tenants.c.tier})
