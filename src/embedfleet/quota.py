"""Decides whether a tenant may submit something now. It is pure arithmetic, so tests are tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from embedfleet.errors import QuotaExceeded
from embedfleet.settings import TenantsSettings, TierSettings


@dataclass(frozen=True, slots=True)
class Amount:
    """Work in the units of the ledger: jobs and their texts, or texts that are embedded without a job.

    `chars` and `bytes` (UTF-8) are sizes of the texts, and `tokens` is what the model's own tokenizer makes
    of them. `texts` counts those without a job.
    """

    jobs: int = 0
    chars: int = 0
    bytes: int = 0
    tokens: int = 0
    texts: int = 0

    def __add__(self, more: Amount) -> Amount:
        return Amount(
            self.jobs + more.jobs,
            self.chars + more.chars,
            self.bytes + more.bytes,
            self.tokens + more.tokens,
            self.texts + more.texts,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """A tenant's unfinished jobs, and what it submitted today (UTC)."""

    active_jobs: int
    today: Amount

    def after(self, jobs: int, amount: Amount) -> Usage:
        """Return the usage after `jobs` more unfinished jobs (fewer if negative) and this amount."""
        return Usage(self.active_jobs + jobs, self.today + amount)


# What a tenant may have of its own instead of its tier's. `max_in_flight` is no limit of a tenant, but memory
# of a worker.
OWN_LIMITS = tuple(name for name in TierSettings.model_fields if name != "max_in_flight")


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """The limits of a tenant: those of its tier, but for its own ones, whose names are in `own`."""

    tier: str
    values: TierSettings
    own: Collection[str] = ()

    def holder(self, name: str) -> str:
        """Say who allows what the limit of this name allows."""
        return "the tenant" if name in self.own else f"tier `{self.tier}`"

    def advice(self, name: str) -> str:
        """Say how an operator raises the limit of this name."""
        if name in self.own:
            return f"raise the tenant's own limit {name}"
        return f"raise tenants.tiers.{self.tier}.{name}"


def limits_of(settings: TenantsSettings, tier: str | None, own: Mapping[str, Any]) -> TenantLimits:
    """Return the limits of a tenant of this tier with these own ones.

    Without a tier it has the default one. Own limits with names of other releases are ignored.
    """
    tier = tier or settings.default_tier
    values = settings.tiers[tier]  # type: ignore[index]  # `tier` is one of the literals
    known = {name: own[name] for name in OWN_LIMITS if name in own}
    return TenantLimits(tier, values.model_copy(update=known) if known else values, frozenset(known))


# A pause before a tenant with too many unfinished jobs tries again. A job usually takes seconds.
_JOBS_END_AFTER_SECONDS = 10.0
_DAY_SECONDS = 86_400.0

# The limits of a day: the name of the setting, the field of an amount, and what it counts.
_DAILY = (
    ("daily_chars", "chars", "characters"),
    ("daily_bytes", "bytes", "bytes"),
    ("daily_tokens", "tokens", "tokens"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not allowed now, in one line, and the fields of `QuotaExceeded`."""

    reason: str
    name: str
    limit: int
    used: int
    retry_after: float | None

    def error(self, whose: str) -> QuotaExceeded:
        """Return the error for what was not allowed; `whose` says who submitted what."""
        return QuotaExceeded(
            f"{whose}: {self.reason}",
            name=self.name,
            limit=self.limit,
            used=self.used,
            retry_after=self.retry_after,
        )


def refusal(limits: TenantLimits, usage: Usage, wanted: Amount, now: float) -> Refusal | None:
    """Return why the limits do not allow this amount at `now`; None if they do.

    `wanted` is one document (`jobs` is 1), or texts to be embedded at once (`jobs` is 0), which have no limit
    of unfinished jobs and of a document's size. What a whole day does not hold is refused for ever, as a day
    has no more.
    """
    too_large = _too_large(limits, wanted)
    if too_large is not None:
        return too_large
    most = limits.values.max_active_jobs
    if wanted.jobs and usage.active_jobs >= most:
        name = "max_active_jobs"
        reason = (
            f"{usage.active_jobs:,} jobs are unfinished, {limits.holder(name)} allows {most:,}: "
            f"wait for some to finish, or {limits.advice(name)}"
        )
        return Refusal(reason, name, most, usage.active_jobs, _JOBS_END_AFTER_SECONDS)
    for name, field, unit in _DAILY:
        allowed = getattr(limits.values, name)
        used, more = getattr(usage.today, field), getattr(wanted, field)
        if allowed is not None and used + more > allowed:
            reason = (
                f"{used:,} {unit} were submitted today, {_what(wanted)} {more:,}, and {limits.holder(name)} "
                f"allows {allowed:,} a day (UTC): go on tomorrow, or {limits.advice(name)}"
            )
            return Refusal(reason, name, allowed, used, seconds_to_next_day(now))
    return None


def seconds_to_next_day(now: float) -> float:
    """Return the time until the limits of a day count from zero again, which they do at midnight UTC."""
    # A day of Unix time has the same length always, and begins at midnight UTC.
    return _DAY_SECONDS - now % _DAY_SECONDS


def _too_large(limits: TenantLimits, wanted: Amount) -> Refusal | None:
    sizes = [(name, field, unit, " a day") for name, field, unit in _DAILY]
    if wanted.jobs:
        sizes.insert(0, ("max_document_chars", "chars", "characters", ""))
    for name, field, unit, period in sizes:
        allowed, size = getattr(limits.values, name), getattr(wanted, field)
        if allowed is not None and size > allowed:
            reason = (
                f"{_what(wanted)} {size:,} {unit}, {limits.holder(name)} allows {allowed:,}{period}: "
                f"split it, or {limits.advice(name)}"
            )
            return Refusal(reason, name, allowed, 0, None)
    return None


def _what(wanted: Amount) -> str:
    return "the document has" if wanted.jobs else "the request has"
