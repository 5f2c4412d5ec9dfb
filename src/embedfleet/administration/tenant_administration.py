"""The administration of one tenant, by the tenant itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from embedfleet.administration.schemas import KeyRequest, NewKey, RoutingInfo, TenantInfo
from embedfleet.administration.scoped_administration import Administration
from embedfleet.api_keys import Scope as KeyScope
from embedfleet.clock import Clock
from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.records import tenants
from embedfleet.records.scope import OneTenant
from embedfleet.records.tenants import TenantRow
from embedfleet.settings import RoutingRule, RoutingRules, Settings
from embedfleet.settings.routing import unknown_model
from embedfleet.sql.database import Database


class TenantAdministration(Administration):
    """The administration of one tenant, by the tenant itself. It cannot change its tier and its limits."""

    def __init__(
        self, database: Database, clock: Clock, settings: Settings, tenant: str, *, actor: str
    ) -> None:
        super().__init__(database, clock, settings, OneTenant(tenant), actor=actor)
        self._tenant = tenant

    async def tenant(self) -> TenantInfo:
        """Return the tenant's tier, its limits, and what it has used of them."""

        def look(conn: Connection) -> TenantInfo:
            return self._describe(conn, [self._row(conn)])[0]

        return await self._database.read(look)

    async def routing(self) -> RoutingInfo:
        """Return which model a document of the tenant gets, if its caller names none."""

        def look(conn: Connection) -> RoutingInfo:
            return self._routing(self._row(conn))

        return await self._database.read(look)

    async def set_rules(self, rules: Sequence[RoutingRule]) -> RoutingInfo:
        """Give the tenant these rules of routing, in place of those it has. Without any it has none.

        They count for every job that begins after it. Documents that are there keep their models. Raises
        InvalidRequest for a rule that can never match, or that names a model that there is not.
        """
        given = checked_rules(rules, Catalogue(self._settings.models).names())

        def change(conn: Connection) -> RoutingInfo:
            tenants.lock(conn, [self._tenant])
            before = self._row(conn)
            after = replace(before, routing=replace(before.routing, rules=given))
            if after != before:
                tenants.set_rules(conn, self._tenant, given)
                written = [one.model_dump(mode="json", exclude_defaults=True) for one in given]
                self._record(conn, "routing.set", self._tenant, self._clock.now(), rules=written)
            return self._routing(after)

        return await self._database.write(change)

    def _row(self, conn: Connection) -> TenantRow:
        return tenants.get_many(conn, [self._tenant]).get(self._tenant, TenantRow(self._tenant))

    def _routing(self, row: TenantRow) -> RoutingInfo:
        models = self._settings.models
        return RoutingInfo(
            tenant_id=self._tenant,
            rules=tuple(row.routing.rules),
            rules_of_settings=models.routing.rules,
            model=row.routing.model,
            default_model=models.default,
        )

    async def create_key(self, request: KeyRequest) -> NewKey:
        """Make a key of this tenant. Raises InvalidRequest for the scope of an operator."""
        if KeyScope.OPERATOR in request.scopes:
            raise InvalidRequest(
                "scopes: `operator` is for keys that belong to no tenant: leave it out", field="scopes"
            )
        return await self._create_key(self._tenant, request)


def checked_rules(rules: Sequence[RoutingRule], models: Sequence[str]) -> tuple[RoutingRule, ...]:
    """Return the rules, or raise InvalidRequest if one can never match or names none of these models."""
    try:
        checked = RoutingRules(rules=tuple(rules)).rules
    except ConfigError as exc:
        raise InvalidRequest(f"rules: {str(exc).removeprefix('setting `rules`: ')}", field="rules") from None
    if wrong := unknown_model(checked, models):
        raise InvalidRequest(f"rules: {wrong}", field="rules")
    return checked
