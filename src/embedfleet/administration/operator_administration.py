"""The administration of all tenants, by an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from embedfleet.administration.schemas import LONGEST_NAME, KeyRequest, NewKey, TenantInfo
from embedfleet.administration.scoped_administration import Administration
from embedfleet.administration.tenant_administration import TenantAdministration
from embedfleet.api_keys import Scope as KeyScope
from embedfleet.clock import Clock
from embedfleet.errors import ConfigError, InvalidRequest, Remedy, UnknownTenant, hint
from embedfleet.lifecycle import erasing
from embedfleet.queue_schemas import UserTier
from embedfleet.quota import OWN_LIMITS, limits_of
from embedfleet.records import tenants
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.scope import EveryTenant
from embedfleet.records.tenants import TenantRow
from embedfleet.settings import Settings, TierSettings
from embedfleet.sql.database import Database


class OperatorAdministration(Administration):
    """The administration of all tenants. Never pass it to code that acts for one tenant."""

    def __init__(self, database: Database, clock: Clock, settings: Settings, *, actor: str) -> None:
        super().__init__(database, clock, settings, EveryTenant(), actor=actor)

    def of(self, tenant: str) -> TenantAdministration:
        """Return the administration of this tenant only. Raises InvalidRequest for an impossible name."""
        _require_name(tenant)
        return TenantAdministration(self._database, self._clock, self._settings, tenant, actor=self._actor)

    async def create_operator_key(self, request: KeyRequest) -> NewKey:
        """Make a key that belongs to no tenant and may do everything; its scope is `operator` alone."""
        return await self._create_key(None, request.model_copy(update={"scopes": {KeyScope.OPERATOR}}))

    async def list_tenants(self, *, limit: int = 100, after: str | None = None) -> Page[TenantInfo]:
        """Return up to `limit` tenants that are known, by name.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)

        def look(conn: Connection) -> Page[TenantInfo]:
            found = tenants.page(conn, self._scope, limit=limit, after=after)
            return Page(self._describe(conn, found), next_cursor=found.next_cursor)

        return await self._database.read(look)

    async def set_tenant(
        self,
        tenant: str,
        *,
        tier: UserTier | None = None,
        limits: Mapping[str, float | None] | None = None,
    ) -> TenantInfo:
        """Set the tier of a tenant, and limits of its own. What is not named stays.

        A tenant that is not known yet is made. `limits` are by their names in the settings of a tier. None
        takes a limit back, so that the tier's holds.

        Raises InvalidRequest for an unknown name, or for a value that the settings would not take.
        """
        _require_name(tenant)

        def change(conn: Connection) -> TenantInfo:
            now = self._clock.now()
            tenants.lock(conn, [tenant])
            before = tenants.get_many(conn, [tenant])[tenant]
            tier_after = tier or before.tier
            own = self._valid(tier_after, _merged(before.limits, limits or {}))
            after = TenantRow(tenant, tier_after, own)
            if after != before:
                if after.tier is not None:
                    tenants.set_tiers(conn, {tenant: after.tier})
                tenants.set_limits(conn, tenant, after.limits)
                self._record(conn, "tenant.set", tenant, now, tier=after.tier, limits=dict(after.limits))
            return self._describe(conn, [after])[0]

        return await self._database.write(change)

    async def delete_tenant(self, tenant: str) -> str:
        """Delete all that a tenant has: documents, jobs and events. Return the id of the receipt.

        Its keys are revoked at once, and the rest goes as the leader and the workers come to it. The receipt
        tells when nothing is left (`OperatorJobs.receipt`). The audit log, the ledger, the keys and receipts
        stay, as evidence. If a deletion of the tenant is under way, its receipt is meant.

        Raises UnknownTenant if there is nothing to delete.
        """
        now = self._clock.now()

        def request(conn: Connection) -> str:
            requested = erasing.request_tenant(conn, tenant, now)
            if requested is None:
                raise UnknownTenant(
                    f"tenant `{tenant}` has nothing to delete: list the tenants to see which there are",
                    remedy=Remedy.LIST_TENANTS,
                )
            if requested.is_new:
                self._record(conn, "tenant.delete", tenant, now, receipt=requested.receipt_id)
            return requested.receipt_id

        return await self._database.write(request)

    def _valid(self, tier: UserTier | None, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the own limits as the settings of this tier would have them. Raises InvalidRequest."""
        of_tier = limits_of(self._settings.tenants, tier, {}).values.model_dump()
        try:
            valid = TierSettings(**of_tier | dict(own))
        except ConfigError as exc:
            raise InvalidRequest(f"limits: {exc}", field="limits") from None
        return {name: getattr(valid, name) for name in own}


def _merged(before: Mapping[str, Any], given: Mapping[str, float | None]) -> dict[str, Any]:
    for name in given:
        if name not in OWN_LIMITS:
            raise InvalidRequest(
                f"limits: there is no limit `{name}`: {hint(name, OWN_LIMITS)}", field="limits"
            )
    kept = {name: value for name, value in before.items() if name not in given}
    return kept | {name: value for name, value in given.items() if value is not None}


def _require_name(tenant: str) -> None:
    if not 0 < len(tenant) <= LONGEST_NAME or "\0" in tenant:
        raise InvalidRequest(f"tenant: must have 1 to {LONGEST_NAME} characters, and no NUL", field="tenant")
