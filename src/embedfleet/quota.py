"""Decides whether a tenant may submit a document now. It is pure arithmetic, so tests are tables."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.settings import TierSettings


@dataclass(frozen=True, slots=True)
class Usage:
    """A tenant's unfinished jobs, and the characters that it submitted today (UTC)."""

    active_jobs: int
    chars_today: int


# A pause before a tenant with too many unfinished jobs tries again. A job usually takes seconds.
_JOBS_END_AFTER_SECONDS = 10.0
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a document is not allowed now, in one line, and the fields of `QuotaExceeded`."""

    reason: str
    limit: int
    used: int
    retry_after: float | None


def refusal(
    tier_name: str, tier: TierSettings, usage: Usage, document_chars: int, now: float
) -> Refusal | None:
    """Return why the tier does not allow a document of this size at `now`; None if it does.

    A document that a whole day's characters do not hold is refused for ever, as a day has no more of them.
    """
    sizes = (("max_document_chars", tier.max_document_chars, ""), ("daily_chars", tier.daily_chars, " a day"))
    for setting, allowed, period in sizes:
        if document_chars > allowed:
            reason = (
                f"the document has {document_chars:,} characters, tier `{tier_name}` allows "
                f"{allowed:,}{period}: split it, or raise tenants.tiers.{tier_name}.{setting}"
            )
            return Refusal(reason, allowed, 0, None)
    if usage.active_jobs >= tier.max_active_jobs:
        reason = (
            f"{usage.active_jobs:,} jobs are unfinished, tier `{tier_name}` allows {tier.max_active_jobs:,}: "
            f"wait for some to finish, or raise tenants.tiers.{tier_name}.max_active_jobs"
        )
        return Refusal(reason, tier.max_active_jobs, usage.active_jobs, _JOBS_END_AFTER_SECONDS)
    if usage.chars_today + document_chars > tier.daily_chars:
        reason = (
            f"{usage.chars_today:,} characters were submitted today, the document has "
            f"{document_chars:,}, and tier `{tier_name}` allows {tier.daily_chars:,} a day (UTC): "
            f"go on tomorrow, or raise tenants.tiers.{tier_name}.daily_chars"
        )
        # A day of Unix time has the same length always, and begins at midnight UTC.
        return Refusal(reason, tier.daily_chars, usage.chars_today, _DAY_SECONDS - now % _DAY_SECONDS)
    return None
