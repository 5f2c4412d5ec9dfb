"""Looks up API keys in SQL, at every request: a key that is revoked is refused from then on."""

from __future__ import annotations

from loguru import logger
from sqlalchemy import Connection

from embedfleet.api.keys import KnownKey
from embedfleet.api_keys import Scope, allowed_by, is_key, is_usable, prefix_of
from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError, one_line
from embedfleet.quota import limits_of
from embedfleet.records import api_keys, tenants
from embedfleet.records.api_keys import KeyRow
from embedfleet.records.tenants import TenantRow
from embedfleet.settings import TenantsSettings
from embedfleet.sql.database import Database

# When a key was used last is for people. A write at every request would cost more than the request.
_NOTE_SECONDS = 60.0


class SqlKeyRing:
    """The keys of the system's database."""

    def __init__(self, database: Database, clock: Clock, settings: TenantsSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._any_exists = False
        self._noted: dict[str, float] = {}

    async def any_exists(self) -> bool:
        """Whether the system has an API key, usable or not."""
        # Rows of keys are never deleted, so a yes stays true.
        if not self._any_exists:
            self._any_exists = await self._database.read(api_keys.any_exists)
        return self._any_exists

    async def find(self, key: str) -> KnownKey | None:
        """Return the key of this text; None if it is unknown, expired or revoked."""
        prefix = prefix_of(key)
        if prefix is None:
            return None
        row, tenant = await self._database.read(lambda conn: _look(conn, prefix))
        now = self._clock.now()
        if row is None or not is_key(key, row.hash):
            return None
        if not is_usable(now, expires_at=row.expires_at, revoked_at=row.revoked_at):
            return None
        await self._note_use(prefix, now)
        return self._known(row, tenant)

    def _known(self, row: KeyRow, tenant: TenantRow | None) -> KnownKey:
        limits: dict[tuple[str, str], int] = {}
        if row.requests_per_minute is not None:
            limits["key", row.prefix] = row.requests_per_minute
        if tenant is not None:
            of_tenant = limits_of(self._settings, tenant.tier, tenant.limits).values.requests_per_minute
            if of_tenant is not None:
                limits["tenant", tenant.tenant] = of_tenant
        return KnownKey(row.prefix, row.tenant, allowed_by(Scope(one) for one in row.scopes), limits)

    async def _note_use(self, prefix: str, now: float) -> None:
        """Record that the key was used, about once a minute. A request does not fail for it."""
        if now - self._noted.get(prefix, 0.0) < _NOTE_SECONDS:
            return
        self._noted[prefix] = now
        try:
            await self._database.write(lambda conn: api_keys.set_used(conn, prefix, now))
        except EmbedfleetError as exc:
            logger.warning("the last use of API key {} is not recorded: {}", prefix, one_line(exc))


def _look(conn: Connection, prefix: str) -> tuple[KeyRow | None, TenantRow | None]:
    key = api_keys.get(conn, prefix)
    if key is None or key.tenant is None:
        return key, None
    return key, tenants.get_many(conn, [key.tenant]).get(key.tenant, TenantRow(key.tenant))
