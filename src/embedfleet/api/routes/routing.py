"""Which model a tenant's documents get by their content: its rules, and moving what is there by them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.administration.schemas import RoutingInfo, RoutingPlan, RoutingStep
from embedfleet.api.access import Admin, Operator, Parts, Writer
from embedfleet.api.administering import tenant_administration
from embedfleet.api.problems import responses
from embedfleet.settings import RoutingRule
from embedfleet.settings.routing import MOST_RULES

router = APIRouter(prefix="/v1", tags=["tenants"])


class TenantRules(BaseModel):
    """The rules of a tenant, in their order. Without any it has none."""

    model_config = ConfigDict(extra="forbid")

    rules: list[RoutingRule] = Field(
        max_length=MOST_RULES, description="The first one that matches a document counts."
    )


class ProposedRules(BaseModel):
    """Rules to try."""

    model_config = ConfigDict(extra="forbid")

    rules: list[RoutingRule] | None = Field(
        default=None, max_length=MOST_RULES, description="In place of the tenant's; null: those that it has."
    )


@router.get("/tenant/routing", responses=responses())
async def get_routing(parts: Parts, caller: Admin) -> RoutingInfo:
    """Which model a document gets, if its caller names none: the rules, and what no rule chooses."""
    return await tenant_administration(parts, caller).routing()


@router.put("/tenant/routing", responses=responses())
async def set_routing(parts: Parts, caller: Admin, wanted: TenantRules) -> RoutingInfo:
    """Give the tenant these rules in place of those it has. They count for every job that begins after it."""
    return await tenant_administration(parts, caller).set_rules(wanted.rules)


@router.post("/tenant/routing:plan", responses=responses())
async def plan_routing(parts: Parts, caller: Writer, proposed: ProposedRules) -> RoutingPlan:
    """What would move if all documents were routed again, with tokens and money. Nothing is changed.

    All texts of the tenant are read, so it may take minutes.
    """
    return await tenant_administration(parts, caller).plan_routing(proposed.rules)


@router.post("/tenant/routing:move", responses=responses(HTTPStatus.CONFLICT))
async def move_routed(
    parts: Parts,
    caller: Operator,
    after: Annotated[
        str | None,
        Query(description="`next_cursor` of the step before.", max_length=64, pattern=r"^[0-9a-f]*$"),
    ] = None,
) -> RoutingStep:
    """Look at the next documents, and begin jobs for those that the rules send to another model.

    It is for operators, as the jobs are in no tenant's ledger.
    """
    return await tenant_administration(parts, caller).move_routed(after=after)
