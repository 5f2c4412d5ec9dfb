"""The administration of one tenant, by the tenant itself."""

from __future__ import annotations

from sqlalchemy import Connection

from embedfleet.administration.schemas import KeyRequest, NewKey, TenantInfo
from embedfleet.administration.scoped_administration import Administration
from embedfleet.api_keys import Scope as KeyScope
from embedfleet.clock import Clock
from embedfleet.errors import InvalidRequest
from embedfleet.records import tenants
from embedfleet.records.scope import OneTenant
from embedfleet.records.tenants import TenantRow
from embedfleet.settings import Settings
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
            row = tenants.get_many(conn, [self._tenant]).get(self._tenant, TenantRow(self._tenant))
            return self._describe(conn, [row])[0]

        return await self._database.read(look)

    async def create_key(self, request: KeyRequest) -> NewKey:
        """Make a key of this tenant. Raises InvalidRequest for the scope of an operator."""
        if KeyScope.OPERATOR in request.scopes:
            raise InvalidRequest(
                "scopes: `operator` is for keys that belong to no tenant: leave it out", field="scopes"
            )
        return await self._create_key(self._tenant, request)
