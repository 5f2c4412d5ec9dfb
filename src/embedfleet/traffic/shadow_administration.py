"""What operators do with shadow runs: they begin them, look at them, and end them before their time."""

from __future__ import annotations

import json
import secrets

from sqlalchemy import Connection

from embedfleet.clock import Clock, utc
from embedfleet.errors import InvalidRequest, Remedy, UnknownShadow
from embedfleet.records import audit, shadows
from embedfleet.records.audit import Deed
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.shadows import DifferenceRow, ShadowRow
from embedfleet.sql.database import Database
from embedfleet.traffic import shadow_ending
from embedfleet.traffic.latencies import quantile_seconds
from embedfleet.traffic.shadow_schemas import (
    DifferenceKind,
    ShadowDifference,
    ShadowFindings,
    ShadowInfo,
    ShadowRule,
    Verdict,
    tenant_of,
)

MOST_SECONDS = 90 * 86_400.0
"""The longest time that a run may go on."""
_MOST_OWNER_CHARS = 200


class ShadowAdministration:
    """The shadow runs of the whole system, for operators. `actor` stands in the audit log.

    Any method may raise DatabaseUnavailable; `begin` and `end` may raise StorageFull.
    """

    def __init__(self, database: Database, clock: Clock, *, actor: str) -> None:
        self._database = database
        self._clock = clock
        self._actor = actor

    async def begin(self, *, owner: str, rule: ShadowRule, expires_seconds: float) -> ShadowInfo:
        """Begin a run, which every routing process notices within a second.

        `owner` is who decides by it. It ends by itself: when its rule is decided, and after
        `expires_seconds` at the latest. Raises InvalidRequest for a wrong value, or while another run goes
        on.
        """
        owner = _checked_owner(owner)
        if not 0 < expires_seconds <= MOST_SECONDS:
            raise InvalidRequest(
                f"expires_seconds: must be above 0 and at most {MOST_SECONDS:g} (got {expires_seconds:g})",
                field="expires_seconds",
            )
        now = self._clock.now()
        new = ShadowRow(
            shadow_id=f"shd_{int(now * 1000):012x}{secrets.token_hex(10)}",
            owner=owner,
            rule=rule.model_dump_json(),
            begun_at=now,
            expires_at=now + expires_seconds,
            ended_at=None,
            verdict=None,
            reason=None,
            erased_at=None,
            findings=ShadowFindings().model_dump_json(),
        )

        def begin(conn: Connection) -> ShadowRow | None:
            if not shadows.begin(conn, new):
                return shadows.running(conn)
            details = {"shadow_id": new.shadow_id, "owner": owner, "rule": rule.model_dump(mode="json")}
            audit.add(conn, Deed(self._actor, "traffic.shadow.begin", None, details), now)
            return None

        other = await self._database.write(begin)
        if other is not None and other.shadow_id != new.shadow_id:
            raise InvalidRequest(
                f"shadow `{other.shadow_id}` of {other.owner} runs until {utc(other.expires_at):%F %T} UTC: "
                "one runs at a time, so wait for its verdict or end it"
            )
        return shadow_info(new)

    async def end(self, shadow_id: str) -> ShadowInfo:
        """End the run before its time, and return it with its verdict: by its rule, otherwise `undecided`.

        One that has ended is returned as it is. Raises UnknownShadow.
        """
        now = self._clock.now()

        def end(conn: Connection) -> None:
            row = self._known(conn, shadow_id)
            judged = shadow_ending.judgement_of(row, is_over=True)
            assert judged is not None
            shadow_ending.end(conn, row, judged, actor=self._actor, now=now)

        await self._database.write(end)
        return await self.show(shadow_id)

    async def show(self, shadow_id: str) -> ShadowInfo:
        """Return the run, with examples of the differences that it found. Raises UnknownShadow."""

        def look(conn: Connection) -> ShadowInfo:
            row = self._known(conn, shadow_id)
            return shadow_info(row, [_difference(one) for one in shadows.examples(conn, shadow_id)])

        return await self._database.read(look)

    async def list_shadows(self, *, limit: int = 100, after: str | None = None) -> Page[ShadowInfo]:
        """Return up to `limit` runs, newest first, without examples.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        found = await self._database.read(lambda conn: shadows.page(conn, limit=limit, after=after))
        return Page(map(shadow_info, found), next_cursor=found.next_cursor)

    @staticmethod
    def _known(conn: Connection, shadow_id: str) -> ShadowRow:
        row = shadows.get(conn, shadow_id)
        if row is None:
            raise UnknownShadow(
                f"no shadow `{shadow_id}`: list the shadows to see which there are",
                remedy=Remedy.LIST_SHADOWS,
            )
        return row


def _checked_owner(owner: str) -> str:
    owner = owner.strip()
    if not owner or len(owner) > _MOST_OWNER_CHARS or not owner.isprintable():
        raise InvalidRequest(
            f"owner: must be 1 to {_MOST_OWNER_CHARS} printable characters that say who decides by this run",
            field="owner",
        )
    return owner


def shadow_info(row: ShadowRow, examples: list[ShadowDifference] | None = None) -> ShadowInfo:
    """Return a run as people see it."""
    found = ShadowFindings.model_validate_json(row.findings)
    return ShadowInfo(
        shadow_id=row.shadow_id,
        owner=row.owner,
        rule=ShadowRule.model_validate_json(row.rule),
        begun_at=utc(row.begun_at),
        expires_at=utc(row.expires_at),
        ended_at=None if row.ended_at is None else utc(row.ended_at),
        verdict=None if row.verdict is None else Verdict(row.verdict),
        reason=row.reason,
        tenant=tenant_of(row.shadow_id),
        findings=found,
        mismatch_rate=found.mismatch_rate,
        error_rate=found.error_rate,
        old_p99_seconds=quantile_seconds(found.old_latencies, 0.99),
        new_p99_seconds=quantile_seconds(found.new_latencies, 0.99),
        p99_ratio=found.p99_ratio,
        examples=tuple(examples or ()),
    )


def _difference(row: DifferenceRow) -> ShadowDifference:
    return ShadowDifference(
        at=utc(row.at),
        tenant=row.tenant,
        media_id=row.media_id,
        kind=DifferenceKind(row.kind),
        details=json.loads(row.details),
    )
