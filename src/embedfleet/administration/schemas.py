"""What administration takes and returns: one form for Python, the command line and HTTP."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.api_keys import Scope
from embedfleet.queue_schemas import UserTier
from embedfleet.settings import RoutingRule
from embedfleet.validation import Checked

LONGEST_NAME = 256


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json")


class KeyState(StrEnum):
    """Whether a key may be used."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyInfo(_Frozen):
    """An API key, without its secret, which is stored nowhere."""

    prefix: str = Field(description="Names the key: in lists, in the ledger and in the audit log.")
    tenant_id: str | None = Field(description="The tenant it acts for; null: it is an operator's.")
    name: str = Field(description="What it is for.")
    scopes: tuple[Scope, ...]
    state: KeyState
    requests_per_minute: int | None = Field(
        description="Most requests in a minute with this key; null: those of its tenant."
    )
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="About when it was used last, to the minute.")


class NewKey(_Frozen):
    """A key that was just made. `key` is its whole text, which is shown this once."""

    # Not in `repr` and `str`, which end up in logs.
    key: str = Field(
        repr=False, description="The key itself. Keep it: it is stored nowhere and never shown again."
    )
    info: KeyInfo


class KeyRequest(Checked):
    """A key that is wanted. A wrong value raises InvalidRequest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="", max_length=LONGEST_NAME, description="What it is for.")
    scopes: frozenset[Scope] = Field(
        default=frozenset({Scope.READ, Scope.WRITE}), min_length=1, description="What it allows."
    )
    expires_in_seconds: float | None = Field(
        default=None, gt=0, le=100 * 366 * 86_400, description="How long it may be used; null: for ever."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="Its limit; null: that of its tenant."
    )


class Limits(_Frozen):
    """The limits of a tenant. null: no limit."""

    weight: float
    max_active_jobs: int
    max_document_chars: int
    daily_chars: int
    daily_bytes: int | None
    daily_tokens: int | None
    requests_per_minute: int | None
    max_priority: int


class Spent(_Frozen):
    """Work in the units of the ledger."""

    jobs: int
    texts: int = Field(description="Texts that were embedded at once, without a job.")
    chars: int
    bytes: int
    tokens: int = Field(description="Tokens of the texts, as the model's own tokenizer counts them.")


class TenantInfo(_Frozen):
    """A tenant: its tier, its limits, and what it has used of them."""

    tenant_id: str
    tier: UserTier
    tier_is_default: bool = Field(description="No tier was set: it has `tenants.default_tier`.")
    limits: Limits = Field(description="What holds: the limits of the tier, or the tenant's own.")
    own_limits: dict[str, float] = Field(description="Limits that the tenant has instead of its tier's.")
    active_jobs: int = Field(description="Its unfinished jobs.")
    today: Spent = Field(description="What it submitted on this day (UTC).")


class RoutingInfo(_Frozen):
    """Which model a document of a tenant gets, if its caller names none: the first that is said here."""

    tenant_id: str
    rules: tuple[RoutingRule, ...] = Field(description="The tenant's own rules, in their order.")
    rules_of_settings: tuple[RoutingRule, ...] = Field(description="Those of the settings, asked after them.")
    model: str | None = Field(description="The tenant's own model; null: it has none.")
    default_model: str = Field(description="The model of tenants that have none.")


class RoutedLine(_Frozen):
    """Documents that the same rule would send from one model to another."""

    from_model: str = Field(description="The model that they have.")
    to_model: str = Field(description="The model that they would get.")
    by: str = Field(description="The rule, or which model no rule chose.")
    documents: int
    tokens: int = Field(description="Tokens of their texts, as the new model counts them.")
    cost: float | None = Field(description="By the new model's price in the settings; null: it has none.")


class RoutingPlan(_Frozen):
    """What would move if all documents were routed again. Nothing was changed."""

    tenant_id: str
    lines: tuple[RoutedLine, ...] = Field(description="What moves, the most documents first.")
    documents: int = Field(description="Documents that move.")
    tokens: int
    cost: float | None = Field(description="The sum; null: one of the models has no price.")
    currency: str
    staying: int = Field(description="Documents that are where the rules send them.")


class RoutingStep(_Frozen):
    """What one step of moving documents did."""

    looked_at: int = Field(description="Documents that were looked at.")
    begun: tuple[str, ...] = Field(description="The jobs that move some of them.")
    left_out: int = Field(description="Documents that should move, and changed or had an unfinished job.")
    next_cursor: str | None = Field(description="Where the next step begins; null: this was the last.")


class UsageLine(_Frozen):
    """A row of the ledger: what a tenant submitted on a day (UTC), with one model and one key."""

    day: str = Field(description="YYYY-MM-DD, in UTC.")
    tenant_id: str
    model: str = Field(description="Empty in rows of releases that did not record it.")
    api_key: str = Field(description="The prefix of the key; empty without one.")
    jobs: int
    texts: int = Field(description="Texts that were embedded at once, without a job.")
    chars: int
    bytes: int
    tokens: int
    cost: float | None = Field(description="By the model's price in the settings; null: it has none.")
    currency: str


class AuditEntry(_Frozen):
    """What an operator or an admin did."""

    number: int
    at: datetime
    actor: str = Field(description="The prefix of the key, or `local` for a command beside the database.")
    action: str
    tenant_id: str | None
    details: dict[str, Any]
