"""Decides whether a tenant may submit a document now. It is pure arithmetic, so tests are tables."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.settings import TierSettings


@dataclass(frozen=True, slots=True)
class Usage:
    """A tenant's unfinished jobs, and the characters that it submitted today (UTC)."""

    active_jobs: int
    chars_today: int


def refusal(tier_name: str, tier: TierSettings, usage: Usage, document_chars: int) -> str | None:
    """Return, in one line, why the tier does not allow a document of this size now; None if it does."""
    if document_chars > tier.max_document_chars:
        return (
            f"the document has {document_chars:,} characters, tier `{tier_name}` allows "
            f"{tier.max_document_chars:,}: split it, or raise tenants.tiers.{tier_name}.max_document_chars"
        )
    if usage.active_jobs >= tier.max_active_jobs:
        return (
            f"{usage.active_jobs:,} jobs are unfinished, tier `{tier_name}` allows {tier.max_active_jobs:,}: "
            f"wait for some to finish, or raise tenants.tiers.{tier_name}.max_active_jobs"
        )
    if usage.chars_today + document_chars > tier.daily_chars:
        return (
            f"{usage.chars_today:,} characters were submitted today, the document has "
            f"{document_chars:,}, and tier `{tier_name}` allows {tier.daily_chars:,} a day (UTC): "
            f"go on tomorrow, or raise tenants.tiers.{tier_name}.daily_chars"
        )
    return None
