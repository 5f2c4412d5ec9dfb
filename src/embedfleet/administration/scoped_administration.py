"""What administrators of one tenant and of all tenants have in common: keys, usage, the audit log."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Connection

from embedfleet.administration.schemas import (
    AuditEntry,
    KeyInfo,
    KeyRequest,
    KeyState,
    Limits,
    NewKey,
    Spent,
    TenantInfo,
    UsageLine,
)
from embedfleet.api_keys import MadeKey, is_usable, make_key
from embedfleet.clock import Clock, utc
from embedfleet.errors import InvalidRequest, Remedy, UnknownKey
from embedfleet.queue_schemas import UserTier
from embedfleet.quota import Amount, limits_of
from embedfleet.records import api_keys, audit, job_counts, usage
from embedfleet.records.api_keys import KeyRow
from embedfleet.records.audit import Deed
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.scope import Scope
from embedfleet.records.tenants import TenantRow
from embedfleet.records.usage import Line
from embedfleet.settings import Settings
from embedfleet.sql.database import Database

_MOST_DAYS = 366
_USUAL_DAYS = 30
# After a rotation, the programs that use the old key have a day to get the new one.
_USUAL_OVERLAP_SECONDS = 86_400.0


class Administration:
    """What an administrator does within one scope. Nothing outside the scope can be seen or changed.

    `actor` is written into the audit log: the prefix of an API key, or `audit.LOCAL`. Any method may raise
    DatabaseUnavailable; a method that writes may raise StorageFull.
    """

    def __init__(
        self, database: Database, clock: Clock, settings: Settings, scope: Scope, *, actor: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._scope = scope
        self._actor = actor

    async def list_keys(self, *, limit: int = 100, after: str | None = None) -> Page[KeyInfo]:
        """Return up to `limit` keys, newest first, the revoked and expired ones too.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        found = await self._database.read(
            lambda conn: api_keys.page(conn, self._scope, limit=limit, after=after)
        )
        return Page(map(self._info, found), next_cursor=found.next_cursor)

    async def rotate_key(self, prefix: str, *, overlap_seconds: float = _USUAL_OVERLAP_SECONDS) -> NewKey:
        """Make a key that is like this one, which expires after the overlap, or earlier if it was to.

        A new key of a key that was to expire lasts as long as the old one did. Raises UnknownKey. Raises
        InvalidRequest for a key that cannot be used any more.
        """
        if not 0 <= overlap_seconds <= _MOST_DAYS * 86_400:
            raise InvalidRequest(
                f"overlap_seconds: must be 0 to {_MOST_DAYS * 86_400} (got {overlap_seconds:g})",
                field="overlap_seconds",
            )
        made = make_key()

        def rotate(conn: Connection) -> KeyRow:
            now = self._clock.now()
            old = self._locked(conn, prefix)
            if not is_usable(now, expires_at=old.expires_at, revoked_at=old.revoked_at):
                raise InvalidRequest(f"API key `{prefix}` cannot be used any more: make another one")
            lasts = None if old.expires_at is None else old.expires_at - old.created_at
            new = _successor(old, made, now, None if lasts is None else now + lasts)
            api_keys.add(conn, new)
            ends = now + overlap_seconds
            api_keys.set_expiry(conn, prefix, ends if old.expires_at is None else min(ends, old.expires_at))
            self._record(conn, "key.rotate", old.tenant, now, prefix=prefix, successor=new.prefix)
            return new

        return NewKey(key=made.text, info=self._info(await self._database.write(rotate)))

    async def revoke_key(self, prefix: str) -> KeyInfo:
        """Make the key unusable from now on, for every API process. Raises UnknownKey."""

        def revoke(conn: Connection) -> KeyRow:
            now = self._clock.now()
            key = self._locked(conn, prefix)
            if key.revoked_at is None:
                api_keys.revoke(conn, prefix, now)
                self._record(conn, "key.revoke", key.tenant, now, prefix=prefix)
            return self._locked(conn, prefix)

        return self._info(await self._database.write(revoke))

    async def usage(self, *, first_day: date | None = None, last_day: date | None = None) -> list[UsageLine]:
        """Return the rows of the ledger from the first day to the last (UTC), both included.

        By default the last day is today, and the first one 29 days before the last. Raises InvalidRequest if
        they are the wrong way round, or more than a year apart.
        """
        last = last_day or utc(self._clock.now()).date()
        first = first_day or last - timedelta(days=_USUAL_DAYS - 1)
        if not 0 <= (last - first).days < _MOST_DAYS:
            raise InvalidRequest(
                f"first_day: {first} to {last} must be 1 to {_MOST_DAYS} days", field="first_day"
            )
        rows = await self._database.read(
            lambda conn: usage.between(conn, self._scope, first.isoformat(), last.isoformat())
        )
        return [self._usage_line(day, line, amount) for day, line, amount in rows]

    async def audit_log(self, *, limit: int = 100, after: str | None = None) -> Page[AuditEntry]:
        """Return up to `limit` entries of the audit log, newest first.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        found = await self._database.read(
            lambda conn: audit.page(conn, self._scope, limit=limit, after=after)
        )
        entries = [
            AuditEntry(
                number=one.number,
                at=utc(one.at),
                actor=one.deed.actor,
                action=one.deed.action,
                tenant_id=one.deed.tenant,
                details=dict(one.deed.details),
            )
            for one in found
        ]
        return Page(entries, next_cursor=found.next_cursor)

    # --- for the two below ---

    async def _create_key(self, owner: str | None, request: KeyRequest) -> NewKey:
        made = make_key()

        def create(conn: Connection) -> KeyRow:
            now = self._clock.now()
            lasts = request.expires_in_seconds
            key = KeyRow(
                prefix=made.prefix,
                hash=made.hash,
                tenant=owner,
                name=request.name,
                scopes=tuple(sorted(request.scopes)),
                requests_per_minute=request.requests_per_minute,
                created_at=now,
                expires_at=None if lasts is None else now + lasts,
            )
            api_keys.add(conn, key)
            self._record(
                conn, "key.create", owner, now, prefix=key.prefix, name=key.name, scopes=list(key.scopes)
            )
            return key

        return NewKey(key=made.text, info=self._info(await self._database.write(create)))

    def _locked(self, conn: Connection, prefix: str) -> KeyRow:
        key = api_keys.lock(conn, self._scope, prefix)
        if key is None:
            raise UnknownKey(
                f"no API key `{prefix}`: list the keys to see which there are", remedy=Remedy.LIST_KEYS
            )
        return key

    def _record(
        self, conn: Connection, action: str, concerns: str | None, now: float, **details: object
    ) -> None:
        audit.add(conn, Deed(self._actor, action, concerns, details), now)

    def _describe(self, conn: Connection, rows: list[TenantRow]) -> list[TenantInfo]:
        names = [row.tenant for row in rows]
        active = job_counts.count_unfinished(conn, names)
        today = usage.of_day(conn, names, self._clock.now())
        return [
            self._tenant_info(row, active.get(row.tenant, 0), today.get(row.tenant, Amount())) for row in rows
        ]

    def _tenant_info(self, row: TenantRow, active_jobs: int, today: Amount) -> TenantInfo:
        limits = limits_of(self._settings.tenants, row.tier, row.limits)
        return TenantInfo(
            tenant_id=row.tenant,
            tier=UserTier(limits.tier),
            tier_is_default=row.tier is None,
            limits=Limits(**{name: getattr(limits.values, name) for name in Limits.model_fields}),
            own_limits={name: row.limits[name] for name in sorted(limits.own)},
            active_jobs=active_jobs,
            today=Spent(**{name: getattr(today, name) for name in Spent.model_fields}),
        )

    def _usage_line(self, day: str, line: Line, amount: Amount) -> UsageLine:
        prices = self._settings.prices
        return UsageLine(
            day=day,
            tenant_id=line.tenant,
            model=line.model,
            api_key=line.api_key,
            cost=prices.cost(line.model, amount.tokens),
            currency=prices.currency,
            **{name: getattr(amount, name) for name in Spent.model_fields},
        )

    def _info(self, key: KeyRow) -> KeyInfo:
        usable = is_usable(self._clock.now(), expires_at=key.expires_at, revoked_at=key.revoked_at)
        state = KeyState.EXPIRED if key.revoked_at is None else KeyState.REVOKED
        return KeyInfo(
            prefix=key.prefix,
            tenant_id=key.tenant,
            name=key.name,
            scopes=key.scopes,
            state=KeyState.ACTIVE if usable else state,
            requests_per_minute=key.requests_per_minute,
            created_at=utc(key.created_at),
            expires_at=None if key.expires_at is None else utc(key.expires_at),
            revoked_at=None if key.revoked_at is None else utc(key.revoked_at),
            used_at=None if key.used_at is None else utc(key.used_at),
        )


def _successor(old: KeyRow, made: MadeKey, now: float, expires_at: float | None) -> KeyRow:
    return KeyRow(
        prefix=made.prefix,
        hash=made.hash,
        tenant=old.tenant,
        name=old.name,
        scopes=old.scopes,
        requests_per_minute=old.requests_per_minute,
        created_at=now,
        expires_at=expires_at,
    )
