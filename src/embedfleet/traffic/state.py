"""What decides which path a request goes. SQL keeps every state that ever held (`records.traffic`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer


class Plan(BaseModel):
    """A climb in steps that the guard takes by itself.

    `steps` are percentages, rising. Each is held for `hold_seconds` at least. `step` is the index of the one
    that holds now, and `since` when it began (Unix seconds). The limits are fractions and ratios: an error
    rate of 0.01 is 1%.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[float, ...]
    hold_seconds: float
    max_error_rate: float
    max_p99_ratio: float
    step: int = 0
    since: float
    paused: bool = False


class Retirement(BaseModel):
    """The old path is retired: it refuses requests. It can be taken back until `final_at` (Unix seconds)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    final_at: float


class TrafficState(BaseModel):
    """Which requests go to the fleet.

    `percent` of the tenants, or of the documents, go to the fleet (0-100; two decimals count). A tenant in
    `deny_tenants`, or a content type in `deny_content_types`, goes the old way whatever the percentage is;
    one that is allowed goes the new way; a denial is stronger than an allowance.

    `change_id` is the number of the change that made this state; 0: nothing was ever changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    change_id: int = 0
    percent: float = Field(default=0.0, ge=0.0, le=100.0)
    sticky_by: Literal["tenant", "document"] = "tenant"
    allow_tenants: frozenset[str] = frozenset()
    deny_tenants: frozenset[str] = frozenset()
    allow_content_types: frozenset[str] = frozenset()
    deny_content_types: frozenset[str] = frozenset()
    plan: Plan | None = None
    retirement: Retirement | None = None
    shadow_id: str | None = None

    @field_serializer("allow_tenants", "deny_tenants", "allow_content_types", "deny_content_types")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        """A state is always written with the same text."""
        return sorted(names)


NOTHING_MOVED = TrafficState()
"""The state before the first change: every request goes the old way."""
