"""What decides which path a request goes. SQL keeps every state that ever held (`records.traffic`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer


class PlanOutcome(StrEnum):
    """How a plan ended. `finished`: its last step held. `breached`: a step was above a limit."""

    FINISHED = "finished"
    BREACHED = "breached"


class Plan(BaseModel):
    """A climb in steps that the guard takes by itself.

    `steps` are percentages, rising. Each is held for `hold_seconds` at least. `step` is the index of the one
    that holds now, and `since` when it began (Unix seconds). The limits are fractions and ratios: an error
    rate of 0.01 is 1%.

    `first_change_id` is the change that began the step: what was counted since then is what the step is
    judged by. `old_p99_seconds` is the old path's p99 as it was last known; None: it never was. `outcome` is
    None while the guard acts on the plan; then it says how the plan ended, and the plan stays as a record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[float, ...]
    hold_seconds: float
    max_error_rate: float
    max_p99_ratio: float
    step: int = 0
    since: float
    first_change_id: int
    paused: bool = False
    old_p99_seconds: float | None = None
    outcome: PlanOutcome | None = None

    @property
    def is_last_step(self) -> bool:
        """Whether the step that holds now is the last one."""
        return self.step == len(self.steps) - 1

    @property
    def last_good_percent(self) -> float:
        """The percentage of the step before the present one; 0 if there is none."""
        return self.steps[self.step - 1] if self.step else 0.0


class Retirement(BaseModel):
    """The old path is retired: it refuses requests. It can be taken back until `final_at` (Unix seconds)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    final_at: float


class TrafficState(BaseModel):
    """Which requests go to the fleet.

    `percent` of the tenants, or of the documents, go to the fleet (0-100; two decimals count). A tenant in
    `deny_tenants`, or a content type in `deny_content_types`, goes the old way whatever the percentage is;
    one that is allowed goes to the fleet; a denial is stronger than an allowance.

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

    @field_serializer("allow_tenants", "deny_tenants", "allow_content_types", "deny_content_types")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        """A state is always written with the same text."""
        return sorted(names)

    @property
    def is_all_async(self) -> bool:
        """Whether every request is decided for the fleet."""
        return self.percent == 100 and not self.deny_tenants and not self.deny_content_types

    @property
    def running_plan(self) -> Plan | None:
        """The plan that the guard acts on; None if there is none, or it has ended."""
        return None if self.plan is None or self.plan.outcome is not None else self.plan


NOTHING_MOVED = TrafficState()
"""The state before the first change: every request goes the old way."""
