"""Ends shadow runs by their rule, and deletes what the fleet made for them."""

from __future__ import annotations

from functools import partial

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.lifecycle import erasing
from embedfleet.records import audit, shadows
from embedfleet.records.audit import Deed
from embedfleet.records.shadows import ShadowRow
from embedfleet.sql.database import Database
from embedfleet.traffic.shadow_fleet import WAIT_SECONDS
from embedfleet.traffic.shadow_schemas import ShadowFindings, ShadowRule, tenant_of
from embedfleet.traffic.verdict import Judgement, judge

ACTOR = "shadow"
"""The actor in the audit log of a run that ends by itself."""
# A comparison that was under way at the end still deletes its copy, or its time is over.
_GRACE_SECONDS = 2 * WAIT_SECONDS


def judgement_of(row: ShadowRow, *, is_over: bool) -> Judgement | None:
    """Return the verdict on the run by its rule; None while it is open."""
    rule = ShadowRule.model_validate_json(row.rule)
    return judge(rule, ShadowFindings.model_validate_json(row.findings), is_over=is_over)


def end(conn: Connection, row: ShadowRow, judged: Judgement, *, actor: str, now: float) -> bool:
    """End the run with this verdict, and note it in the audit log. Return False if it had ended before."""
    verdict = judged.verdict.value
    if not shadows.end(conn, row.shadow_id, verdict=verdict, reason=judged.reason, now=now):
        return False
    details = {"shadow_id": row.shadow_id, "owner": row.owner, "verdict": verdict, "reason": judged.reason}
    audit.add(conn, Deed(actor, "traffic.shadow.end", None, details), now)
    return True


async def shadow_step(database: Database, clock: Clock) -> None:
    """End the run that its rule or its time ends, and request the deletion of what ended runs left.

    Two processes may do it at once: the second finds nothing to do. Raises DatabaseUnavailable, StorageFull.
    """
    now = clock.now()
    row, left = await database.read(
        lambda conn: (shadows.running(conn), shadows.to_erase(conn, ended_before=now - _GRACE_SECONDS))
    )
    if row is not None and judgement_of(row, is_over=now >= row.expires_at) is not None:
        await database.write(partial(_end_by_itself, shadow_id=row.shadow_id, now=now))
    for shadow_id in left:
        await database.write(partial(_erase, shadow_id=shadow_id, now=now))


def _end_by_itself(conn: Connection, shadow_id: str, now: float) -> None:
    # Read again, as findings may have come since.
    row = shadows.get(conn, shadow_id)
    judged = None if row is None else judgement_of(row, is_over=now >= row.expires_at)
    if row is not None and judged is not None and end(conn, row, judged, actor=ACTOR, now=now):
        logger.info("shadow {} of {} {}: {}", shadow_id, row.owner, judged.verdict, judged.reason)


def _erase(conn: Connection, shadow_id: str, now: float) -> None:
    erasing.request_tenant(conn, tenant_of(shadow_id), now)
    shadows.note_erased(conn, shadow_id, now)
