"""Who the server takes the caller for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from embedfleet.client.calls.reading import record
from embedfleet.client.steps import Ask, Steps


class Identity(BaseModel):
    """Who makes the requests. `tenant_id` is None for an operator who names no tenant."""

    model_config = ConfigDict(frozen=True)

    tenant_id: str | None
    scopes: tuple[str, ...]
    key: str | None


def me() -> Steps[Identity]:
    """Return the tenant and the scopes of the caller."""
    return record(Identity, (yield Ask("GET", "/v1/me")))
