"""Who the server takes the caller for."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from embedfleet.api.access import Caller
from embedfleet.api.problems import responses
from embedfleet.api_keys import Scope

router = APIRouter(prefix="/v1", tags=["identity"])


class Identity(BaseModel):
    """Who makes a request, and what they may do."""

    tenant_id: str | None = Field(description="The tenant it acts for; null: an operator who names none.")
    scopes: list[Scope]
    key: str | None = Field(description="The prefix of the API key; null without one.")


@router.get("/me", responses=responses())
async def me(caller: Caller) -> Identity:
    """The tenant and the scopes of the caller."""
    return Identity(tenant_id=caller.named_tenant, scopes=sorted(caller.scopes), key=caller.key or None)
