"""Shadow runs: the old path answers, the fleet does the same unseen, and both are compared. For operators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.api.access import Operator, Parts, Principal
from embedfleet.api.fields import NO_NUL, After, Limit, NextCursor
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.records.audit import LOCAL
from embedfleet.traffic.shadow_administration import ShadowAdministration
from embedfleet.traffic.shadow_schemas import ShadowInfo, ShadowRule

router = APIRouter(prefix="/v1/traffic/shadows", tags=["traffic"])

_ShadowId = Annotated[str, Path(description="The id of a shadow run.", max_length=64, pattern=NO_NUL)]


class NewShadow(BaseModel):
    """A shadow run that is to begin."""

    model_config = ConfigDict(extra="forbid")

    owner: str = Field(max_length=1_000, pattern=NO_NUL, description="Who decides by this run.")
    rule: ShadowRule
    expires_seconds: float = Field(allow_inf_nan=False, description="It ends after this time in any case.")


class ShadowPage(BaseModel):
    """Some shadow runs of a listing."""

    shadows: list[ShadowInfo]
    next_cursor: NextCursor


@router.post("", status_code=201, responses=responses())
async def begin_shadow(parts: Parts, caller: Operator, new: NewShadow) -> ShadowInfo:
    """Begin a run. It ends by itself: when its rule is decided, and at its expiry at the latest.

    One run goes on at a time.
    """
    return await _shadows(parts, caller).begin(
        owner=new.owner, rule=new.rule, expires_seconds=new.expires_seconds
    )


@router.get("", responses=responses())
async def list_shadows(parts: Parts, caller: Operator, limit: Limit = 100, after: After = None) -> ShadowPage:
    """Runs, newest first, without examples."""
    page = await _shadows(parts, caller).list_shadows(limit=limit, after=after)
    return ShadowPage(shadows=page, next_cursor=page.next_cursor)


@router.get("/{shadow_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_shadow(parts: Parts, caller: Operator, shadow_id: _ShadowId) -> ShadowInfo:
    """A run, with examples of the differences that it found: ids and numbers, and no text."""
    return await _shadows(parts, caller).show(shadow_id)


@router.post("/{shadow_id}/end", responses=responses(HTTPStatus.NOT_FOUND))
async def end_shadow(parts: Parts, caller: Operator, shadow_id: _ShadowId) -> ShadowInfo:
    """End a run before its time, with the verdict of its rule if that can tell. One that ended stays so."""
    return await _shadows(parts, caller).end(shadow_id)


def _shadows(parts: ApiParts, caller: Principal) -> ShadowAdministration:
    assert caller.is_operator
    return ShadowAdministration(parts.database, parts.clock, actor=caller.key or LOCAL)
