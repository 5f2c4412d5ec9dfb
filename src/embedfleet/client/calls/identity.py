"""Who the server takes the caller for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from embedfleet.client.steps import Ask, Steps


class Identity(BaseModel):
    """Who makes the requests. `tenant_id` is None for an operator who names no tenant."""

    model_config = ConfigDict(frozen=True)  # a field of a later release is ignored

    tenant_id: str | None
    scopes: tuple[str, ...]
    key: str | None


def me() -> Steps[Identity]:
    """Return the tenant and the scopes of the caller."""
    response = yield Ask("GET", "/v1/me")
    return Identity.model_validate(response.json())
