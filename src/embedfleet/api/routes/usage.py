"""Usage: the ledger of what tenants submitted; and the audit log."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from embedfleet.administration.schemas import AuditEntry, UsageLine
from embedfleet.administration.usage_csv import usage_csv
from embedfleet.api.access import Admin, Parts
from embedfleet.api.administering import administration_within
from embedfleet.api.fields import After, Limit, NextCursor
from embedfleet.api.problems import responses

router = APIRouter(prefix="/v1", tags=["usage"])


class Usage(BaseModel):
    """Rows of the ledger, by day, tenant, model and key."""

    usage: list[UsageLine]


class AuditPage(BaseModel):
    """Some entries of the audit log."""

    audit: list[AuditEntry]
    next_cursor: NextCursor


_AS_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@router.get("/usage", responses={**responses(), **_AS_CSV}, response_model=Usage)
async def get_usage(
    parts: Parts,
    caller: Admin,
    first_day: Annotated[
        date | None, Query(alias="from", description="First day (UTC); without it, 29 days before the last.")
    ] = None,
    last_day: Annotated[
        date | None, Query(alias="to", description="Last day (UTC), included; without it, today.")
    ] = None,
    shape: Annotated[
        Literal["json", "csv"], Query(alias="format", description="JSON, or a table for a spreadsheet.")
    ] = "json",
) -> Usage | Response:
    """What the tenant submitted, by day, model and key: the rows that quotas are counted from.

    An operator who names no tenant sees the rows of all.
    """
    lines = await administration_within(parts, caller).usage(first_day=first_day, last_day=last_day)
    if shape == "csv":
        return Response(usage_csv(lines), media_type="text/csv; charset=utf-8")
    return Usage(usage=lines)


@router.get("/audit", responses=responses())
async def get_audit_log(parts: Parts, caller: Admin, limit: Limit = 100, after: After = None) -> AuditPage:
    """What operators and admins did with the tenant and its keys, newest first.

    An operator who names no tenant sees everything that was done.
    """
    page = await administration_within(parts, caller).audit_log(limit=limit, after=after)
    return AuditPage(audit=page, next_cursor=page.next_cursor)
