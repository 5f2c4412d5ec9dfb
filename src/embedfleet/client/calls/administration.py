"""Tenants, API keys, usage and the audit log, for admins of a tenant and for operators.

The contracts are those of `TenantAdministration` and `OperatorAdministration` of `administration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from embedfleet.administration.schemas import (
    AuditEntry,
    KeyInfo,
    KeyRequest,
    NewKey,
    RoutingInfo,
    RoutingPlan,
    RoutingStep,
    TenantInfo,
    UsageLine,
)
from embedfleet.api_keys import Scope
from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import document, entries, record, segment
from embedfleet.client.server import EVERY_TENANT, tenant_header
from embedfleet.client.steps import Ask, Steps
from embedfleet.queue_schemas import UserTier
from embedfleet.records.cursors import Page
from embedfleet.settings import RoutingRule

# All texts of a tenant are read for a plan.
_PLAN_SECONDS = 600.0


def list_keys(*, limit: int = 100, after: str | None = None) -> Steps[Page[KeyInfo]]:
    """Return up to `limit` keys, newest first, the revoked and expired ones too."""
    return (yield from listed(KeyInfo, "/v1/keys", "keys", limit=limit, after=after))


def create_key(request: KeyRequest) -> Steps[NewKey]:
    """Make a key of the tenant. Its text is in the result and nowhere else.

    If the answer is lost on the way, the key exists and its text does not: revoke it, and make another one.
    """
    return record(NewKey, (yield Ask("POST", "/v1/keys", json=document(request))))


def create_operator_key(request: KeyRequest) -> Steps[NewKey]:
    """Make a key that belongs to no tenant and may do everything."""
    body = document(request, scopes=[Scope.OPERATOR])
    return record(NewKey, (yield Ask("POST", "/v1/keys", json=body, headers=EVERY_TENANT)))


def rotate_key(prefix: str, *, overlap_seconds: float = 86_400.0) -> Steps[NewKey]:
    """Make a key like this one, which still works for the overlap. Raises UnknownKey, InvalidRequest."""
    path = f"/v1/keys/{segment(prefix)}/rotate"
    return record(NewKey, (yield Ask("POST", path, json={"overlap_seconds": overlap_seconds})))


def revoke_key(prefix: str) -> Steps[KeyInfo]:
    """Make the key unusable, at once and for good. Raises UnknownKey."""
    return record(KeyInfo, (yield Ask("DELETE", f"/v1/keys/{segment(prefix)}")))


def usage(*, first_day: date | None = None, last_day: date | None = None) -> Steps[list[UsageLine]]:
    """Return what was submitted on these days (UTC), by day, tenant, model and key."""
    params = {"from": first_day, "to": last_day}
    return entries(UsageLine, (yield Ask("GET", "/v1/usage", params=params)), "usage")


def audit_log(*, limit: int = 100, after: str | None = None) -> Steps[Page[AuditEntry]]:
    """Return up to `limit` entries of what operators and admins did, newest first."""
    return (yield from listed(AuditEntry, "/v1/audit", "audit", limit=limit, after=after))


def tenant() -> Steps[TenantInfo]:
    """Return the tenant's tier, its limits, and what it has used of them today (UTC)."""
    return record(TenantInfo, (yield Ask("GET", "/v1/tenant")))


def routing() -> Steps[RoutingInfo]:
    """Return which model a document of the tenant gets, if its caller names none."""
    return record(RoutingInfo, (yield Ask("GET", "/v1/tenant/routing")))


def set_rules(rules: Sequence[RoutingRule]) -> Steps[RoutingInfo]:
    """Give the tenant these rules of routing, in place of those it has. Raises InvalidRequest."""
    return record(RoutingInfo, (yield Ask("PUT", "/v1/tenant/routing", json={"rules": _written(rules)})))


def plan_routing(rules: Sequence[RoutingRule] | None = None) -> Steps[RoutingPlan]:
    """Say what would move if all documents were routed again; with `rules`, by these. Nothing is changed."""
    body = {"rules": None if rules is None else _written(rules)}
    response = yield Ask(
        "POST", "/v1/tenant/routing:plan", json=body, repeats=True, patience_seconds=_PLAN_SECONDS
    )
    return record(RoutingPlan, response)


def move_routed(*, after: str | None = None) -> Steps[RoutingStep]:
    """Look at the next documents, and begin jobs for those that the rules send to another model."""
    params = {} if after is None else {"after": after}
    return record(RoutingStep, (yield Ask("POST", "/v1/tenant/routing:move", params=params, repeats=True)))


def _written(rules: Sequence[RoutingRule]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json", exclude_defaults=True) for one in rules]


def list_tenants(*, limit: int = 100, after: str | None = None) -> Steps[Page[TenantInfo]]:
    """Return up to `limit` tenants that are known, by name. For operators."""
    return (yield from listed(TenantInfo, "/v1/tenants", "tenants", limit=limit, after=after))


def delete_tenant(tenant: str) -> Steps[str]:
    """Delete all that a tenant has, its keys at once, and return the receipt's id. For operators.

    Raises UnknownTenant if there is nothing to delete.
    """
    response = yield Ask("DELETE", "/v1/tenant", headers=tenant_header(tenant))
    receipt_id: str = response.json()["receipt_id"]
    return receipt_id


def set_tenant(
    tenant: str, *, tier: UserTier | None = None, limits: Mapping[str, float | None] | None = None
) -> Steps[TenantInfo]:
    """Set the tier of a tenant, and limits of its own. What is not named stays. For operators."""
    body = {"tier": tier, "limits": dict(limits or {})}
    ask = Ask("PATCH", "/v1/tenant", json=body, headers=tenant_header(tenant), repeats=True)
    return record(TenantInfo, (yield ask))
