"""API keys: list, make, rotate and revoke them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.administration.schemas import KeyInfo, KeyRequest, NewKey
from embedfleet.api.access import Admin, Parts, Principal
from embedfleet.api.administering import (
    administration_within,
    operator_administration,
    tenant_administration,
)
from embedfleet.api.fields import NO_NUL, After, Limit, NextCursor
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api_keys import Scope

router = APIRouter(prefix="/v1/keys", tags=["keys"])

Prefix = Annotated[str, Path(description="The prefix of the key.", max_length=64, pattern=NO_NUL)]


class KeyPage(BaseModel):
    """Some keys of a listing."""

    keys: list[KeyInfo]
    next_cursor: NextCursor


class Rotation(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: float = Field(
        default=86_400.0, ge=0, le=366 * 86_400, description="How long the old key still works."
    )


@router.get("", responses=responses())
async def list_keys(parts: Parts, caller: Admin, limit: Limit = 100, after: After = None) -> KeyPage:
    """Keys of the tenant, newest first, the revoked and expired ones too; all keys for `X-Tenant: *`."""
    page = await administration_within(parts, caller).list_keys(limit=limit, after=after)
    return KeyPage(keys=page, next_cursor=page.next_cursor)


@router.post("", status_code=201, responses=responses())
async def create_key(parts: Parts, caller: Admin, wanted: KeyRequest, response: Response) -> NewKey:
    """Make a key. Its text is in this answer and nowhere else, so keep it.

    A key of the scope `operator` belongs to no tenant: only an operator makes one, with `X-Tenant: *`. It has
    no idempotency key, since the answer of a first try would have to be kept.
    """
    _not_to_be_kept(response)
    return await _made(parts, caller, wanted)


async def _made(parts: ApiParts, caller: Principal, wanted: KeyRequest) -> NewKey:
    if Scope.OPERATOR in wanted.scopes and caller.is_operator and caller.named_tenant is None:
        return await operator_administration(parts, caller).create_operator_key(wanted)
    return await tenant_administration(parts, caller).create_key(wanted)


@router.post("/{prefix}/rotate", status_code=201, responses=responses(HTTPStatus.NOT_FOUND))
async def rotate_key(
    parts: Parts, caller: Admin, prefix: Prefix, response: Response, rotation: Rotation | None = None
) -> NewKey:
    """Make a key that is like this one, which still works for a while. The text is in this answer only."""
    _not_to_be_kept(response)
    overlap = (rotation or Rotation()).overlap_seconds
    return await administration_within(parts, caller).rotate_key(prefix, overlap_seconds=overlap)


@router.delete("/{prefix}", responses=responses(HTTPStatus.NOT_FOUND))
async def revoke_key(parts: Parts, caller: Admin, prefix: Prefix) -> KeyInfo:
    """Make the key unusable, at once and for good. The ledger keeps its prefix."""
    return await administration_within(parts, caller).revoke_key(prefix)


def _not_to_be_kept(response: Response) -> None:
    """Tell caches on the way that they must not keep the answer: it holds a secret."""
    response.headers["Cache-Control"] = "no-store"
