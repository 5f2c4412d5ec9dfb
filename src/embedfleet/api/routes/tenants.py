"""Tenants: their tiers and limits, and what they have used of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.administration.schemas import TenantInfo
from embedfleet.api.access import Admin, Operator, Parts
from embedfleet.api.administering import operator_administration, tenant_administration
from embedfleet.api.fields import After, Limit, NextCursor
from embedfleet.api.problems import responses
from embedfleet.queue_schemas import UserTier

router = APIRouter(prefix="/v1", tags=["tenants"])


class TenantPage(BaseModel):
    """Some tenants of a listing."""

    tenants: list[TenantInfo]
    next_cursor: NextCursor


class TenantChange(BaseModel):
    """What changes of a tenant. What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    tier: UserTier | None = Field(default=None, description="The tier of the tenant from now on.")
    limits: dict[str, Annotated[int | float, Field(allow_inf_nan=False)] | None] = Field(
        default_factory=dict,
        max_length=100,
        description="Limits of its own in place of its tier's, by the names in `limits` of a tenant. null "
        "takes one back.",
    )


class TenantDeletion(BaseModel):
    """A deletion of a tenant that is under way."""

    receipt_id: str = Field(description="`/v1/receipts/{receipt_id}` tells when nothing is left.")


@router.get("/tenants", responses=responses())
async def list_tenants(parts: Parts, caller: Operator, limit: Limit = 100, after: After = None) -> TenantPage:
    """Tenants that have submitted something or were set up, by name. For operators."""
    page = await operator_administration(parts, caller).list_tenants(limit=limit, after=after)
    return TenantPage(tenants=page, next_cursor=page.next_cursor)


@router.get("/tenant", responses=responses())
async def get_tenant(parts: Parts, caller: Admin) -> TenantInfo:
    """The tenant that the request acts for: its limits, and what it has used of them today (UTC)."""
    return await tenant_administration(parts, caller).tenant()


@router.patch("/tenant", responses=responses())
async def change_tenant(parts: Parts, caller: Operator, change: TenantChange) -> TenantInfo:
    """Set the tier and the limits of the tenant that `X-Tenant` names. For operators."""
    administration = operator_administration(parts, caller)
    return await administration.set_tenant(caller.tenant, tier=change.tier, limits=change.limits)


@router.delete("/tenant", status_code=202, responses=responses(HTTPStatus.NOT_FOUND))
async def delete_tenant(parts: Parts, caller: Operator) -> TenantDeletion:
    """Revoke the keys of the tenant that `X-Tenant` names, and delete all it has. For operators.

    The ledger, the audit log, the revoked keys and receipts stay, as evidence.
    """
    administration = operator_administration(parts, caller)
    return TenantDeletion(receipt_id=await administration.delete_tenant(caller.tenant))
