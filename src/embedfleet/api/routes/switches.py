"""Switches of tenants to other models: estimate, begin, look, order. For operators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.api.access import Operator, Parts, Principal
from embedfleet.api.fields import LONGEST_MODEL, NO_NUL, After, Limit, NextCursor
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api.routes.events import LARGEST_POSITION
from embedfleet.model_switching.administration import SwitchAdministration
from embedfleet.model_switching.orders import MOST_JOBS
from embedfleet.model_switching.schemas import SwitchesBegun, SwitchesOrdered, SwitchEstimate, SwitchInfo
from embedfleet.model_switching.selection import LONGEST_CAMPAIGN, Selection
from embedfleet.records.audit import LOCAL

router = APIRouter(prefix="/v1", tags=["model switches"])

_LONGEST_TENANT = 256

_TenantId = Annotated[
    str | None, Field(min_length=1, max_length=_LONGEST_TENANT, pattern=NO_NUL, description="One tenant.")
]
_Campaign = Annotated[
    str | None,
    Field(max_length=LONGEST_CAMPAIGN, pattern=NO_NUL, description="All that one order began."),
]
_Percent = Annotated[
    float, Field(ge=0, le=100, allow_inf_nan=False, description="The share of queries of the new space.")
]
_MostJobs = Annotated[
    int | None,
    Field(ge=1, le=MOST_JOBS, description="Documents that are embedded at a time; null: by the settings."),
]
_TenantQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=_LONGEST_TENANT, pattern=NO_NUL, description="Only of this tenant."),
]
_CampaignQuery = Annotated[
    str | None,
    Query(max_length=LONGEST_CAMPAIGN, pattern=NO_NUL, description="Only those that one order began."),
]
_ModelQuery = Annotated[
    str, Query(max_length=LONGEST_MODEL, pattern=NO_NUL, description="The model to switch to.")
]
_FromQuery = Annotated[
    str | None,
    Query(max_length=LONGEST_MODEL, pattern=NO_NUL, description="The model to leave, or `route`."),
]
_SwitchId = Annotated[int, Path(description="The number of a switch.", ge=1, le=LARGEST_POSITION)]


class NewSwitches(BaseModel):
    """Tenants that are to be switched to another model: one, or all."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: _TenantId = None
    all_tenants: bool = Field(default=False, description="Every known tenant, in place of one.")
    to_model: str = Field(max_length=LONGEST_MODEL, pattern=NO_NUL, description="The model to switch to.")
    from_model: str | None = Field(
        default=None,
        max_length=LONGEST_MODEL,
        pattern=NO_NUL,
        description="The model to leave. It must be named if a tenant has documents of several. `route`: all "
        "of them.",
    )
    percent: _Percent = 100.0
    most_jobs: _MostJobs = None
    force: bool = Field(default=False, description="Pass the gate whatever it finds. The audit log has it.")


class SelectedSwitches(BaseModel):
    """Switches that are under way: of one tenant, of a campaign, or all. Name one of the three."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: _TenantId = None
    campaign: _Campaign = None
    all_tenants: bool = Field(default=False, description="Every switch that is under way.")

    @property
    def selection(self) -> Selection:
        """Raises InvalidRequest unless one of the three is named."""
        return Selection(self.tenant_id, self.campaign, self.all_tenants)


class ServedShare(SelectedSwitches):
    """How many of the queries the new space answers."""

    percent: _Percent


class Throttle(SelectedSwitches):
    """How many documents are embedded at a time."""

    most_jobs: _MostJobs = None


class Retiring(SelectedSwitches):
    """Which space is emptied: the one that answers no query."""

    force: bool = Field(
        default=False,
        description="Though documents are only there. Those that the other model cannot embed stay.",
    )


class SwitchPage(BaseModel):
    """Some switches of a listing."""

    switches: list[SwitchInfo] = Field(description="The switches, newest first.")
    next_cursor: NextCursor


_CONFLICT = responses(HTTPStatus.CONFLICT)


@router.get("/model_switches:estimate", responses=responses())
async def estimate_switches(
    parts: Parts,
    caller: Operator,
    to_model: _ModelQuery,
    from_model: _FromQuery = None,
    tenant_id: _TenantQuery = None,
    all_tenants: Annotated[bool, Query(description="Every known tenant, in place of one.")] = False,
) -> SwitchEstimate:
    """What the switches of a tenant, or of all tenants, would take: tokens, money, time, disk."""
    selection = Selection(tenant_id, None, all_tenants)
    return await _switches(parts, caller).estimate(selection, to_model=to_model, from_model=from_model)


@router.post("/model_switches", responses=responses())
async def begin_switches(parts: Parts, caller: Operator, new: NewSwitches) -> SwitchesBegun:
    """Begin to switch a tenant, or all tenants, to another model. Given again, it changes nothing.

    Of all tenants, those that cannot be switched are left out, with the reason.
    """
    return await _switches(parts, caller).begin(
        Selection(new.tenant_id, None, new.all_tenants),
        to_model=new.to_model,
        from_model=new.from_model,
        percent=new.percent,
        most_jobs=new.most_jobs,
        force=new.force,
    )


@router.get("/model_switches", responses=responses())
async def list_switches(
    parts: Parts,
    caller: Operator,
    tenant_id: _TenantQuery = None,
    campaign: _CampaignQuery = None,
    ended: Annotated[bool, Query(description="With those that have ended.")] = False,
    limit: Limit = 100,
    after: After = None,
) -> SwitchPage:
    """Switches, newest first, with their progress and without their worst questions."""
    page = await _switches(parts, caller).list_switches(
        tenant=tenant_id, campaign=campaign, ended=ended, limit=limit, after=after
    )
    return SwitchPage(switches=page, next_cursor=page.next_cursor)


@router.get("/model_switches/{switch_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_switch(parts: Parts, caller: Operator, switch_id: _SwitchId) -> SwitchInfo:
    """A switch, with the questions that the new space answers worst: titles and headings of documents."""
    return await _switches(parts, caller).show(switch_id)


@router.post("/model_switches:pause", responses=_CONFLICT)
async def pause_switches(parts: Parts, caller: Operator, which: SelectedSwitches) -> SwitchesOrdered:
    """Embed no more documents of before for now. What is submitted is still embedded with both models."""
    return await _switches(parts, caller).pause(which.selection)


@router.post("/model_switches:resume", responses=_CONFLICT)
async def resume_switches(parts: Parts, caller: Operator, which: SelectedSwitches) -> SwitchesOrdered:
    """Go on after a pause."""
    return await _switches(parts, caller).resume(which.selection)


@router.post("/model_switches:throttle", responses=_CONFLICT)
async def throttle_switches(parts: Parts, caller: Operator, which: Throttle) -> SwitchesOrdered:
    """Embed at most this many documents of a tenant at a time."""
    return await _switches(parts, caller).throttle(which.selection, most_jobs=which.most_jobs)


@router.post("/model_switches:serve", responses=_CONFLICT)
async def serve_switches(parts: Parts, caller: Operator, which: ServedShare) -> SwitchesOrdered:
    """Have the new space answer this share of the queries: at once, or once it has passed the gate."""
    return await _switches(parts, caller).serve(which.selection, percent=which.percent)


@router.post("/model_switches:rollback", responses=_CONFLICT)
async def roll_back_switches(parts: Parts, caller: Operator, which: SelectedSwitches) -> SwitchesOrdered:
    """Have the old space answer all queries again, at once."""
    return await _switches(parts, caller).rollback(which.selection)


@router.post("/model_switches:force", responses=_CONFLICT)
async def force_switches(parts: Parts, caller: Operator, which: SelectedSwitches) -> SwitchesOrdered:
    """Pass a gate that has refused the switch, or will. The audit log has it."""
    return await _switches(parts, caller).force(which.selection)


@router.post("/model_switches:recheck", responses=_CONFLICT)
async def recheck_switches(parts: Parts, caller: Operator, which: SelectedSwitches) -> SwitchesOrdered:
    """Have a refused switch checked again."""
    return await _switches(parts, caller).recheck(which.selection)


@router.post("/model_switches:retire", responses=_CONFLICT)
async def retire_switches(parts: Parts, caller: Operator, which: Retiring) -> SwitchesOrdered:
    """Empty the space that answers no query, and end the switch. There is no way back from here."""
    return await _switches(parts, caller).retire(which.selection, force=which.force)


def _switches(parts: ApiParts, caller: Principal) -> SwitchAdministration:
    assert caller.is_operator
    return SwitchAdministration(
        parts.database, parts.clock, parts.settings, parts.catalogue, actor=caller.key or LOCAL
    )
