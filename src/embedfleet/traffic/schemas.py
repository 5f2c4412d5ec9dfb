"""What the administration of traffic returns: one form for Python, the command line and HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.traffic.guard import Action
from embedfleet.traffic.shadow_schemas import ShadowInfo
from embedfleet.traffic.state import TrafficState


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class TrafficChange(_Frozen):
    """A change of which requests go to the fleet, and the state after it."""

    change_id: int = Field(description="Counts the changes from 1.")
    at: datetime
    actor: str = Field(
        description="The prefix of a key, `local` for a command beside the database, or `guard`."
    )
    action: str
    reason: str | None
    state: TrafficState


class PathFigures(_Frozen):
    """How one path answered its requests."""

    requests: int
    errors: int = Field(description="Requests that the path failed to answer.")
    fallbacks: int = Field(description="Those of them that the other path was then asked to answer.")
    chunks: int = Field(description="Chunks that were stored.")
    p50_seconds: float | None = Field(description="Half of the answers took no longer; null: there is none.")
    p99_seconds: float | None = Field(description="99% of the answers took no longer; null: there is none.")


class GuardView(_Frozen):
    """What the guard would do now with the plan under way, and why."""

    action: Action
    reason: str


class TrafficStatus(_Frozen):
    """Which requests go to the fleet, since when and why, and how both paths answer."""

    state: TrafficState
    change: TrafficChange | None = Field(
        description="The change that made the state; null: nothing was changed."
    )
    guard: GuardView | None = Field(description="Null: no plan is under way.")
    window_seconds: float = Field(description="The figures of the paths are of this time until now.")
    paths: dict[str, PathFigures] = Field(
        description="By `sync` (the old path) and `async` (the fleet); a path without requests is left out."
    )
    pending_removals: dict[str, int] = Field(
        description="Documents that are still to be removed from a path, as the other one answered for them."
    )
    shadow: ShadowInfo | None = Field(description="The shadow run that goes on; null: none does.")
