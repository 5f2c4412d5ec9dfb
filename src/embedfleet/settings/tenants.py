"""The section of tenants: the limits of each tier, and the tenant of the command line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from embedfleet.settings.section import Section


class TierSettings(Section):
    """The limits of a tier, and its share of the workers."""

    weight: float = Field(
        ge=0.01,
        le=100,
        description="Share of the workers, relative to other tenants with work. Raise to serve the tier "
        "faster.",
    )
    max_active_jobs: int = Field(
        ge=1, description="Most unfinished jobs of a tenant. Raise for large imports."
    )
    max_document_chars: int = Field(
        ge=1, description="Most characters of a document. Raise for larger documents."
    )
    daily_chars: int = Field(
        ge=1, description="Most characters that a tenant may submit in a day (UTC). Raise for large imports."
    )
    max_in_flight: int | None = Field(
        default=4,
        ge=1,
        description="Most documents of one tenant that a chunking worker keeps open while they wait for "
        "room in the embedding queue; None: no limit. It takes nothing from the tenant's share, as its share "
        "of the queue is full then. Lower to save memory.",
    )


def _default_tiers() -> dict[str, TierSettings]:
    million = 1_000_000
    return {
        "free": TierSettings(
            weight=1, max_active_jobs=1_000, max_document_chars=10 * million, daily_chars=200 * million
        ),
        "basic": TierSettings(
            weight=2, max_active_jobs=10_000, max_document_chars=100 * million, daily_chars=2_000 * million
        ),
        "premium": TierSettings(
            weight=4,
            max_active_jobs=100_000,
            max_document_chars=1_000 * million,
            daily_chars=20_000 * million,
        ),
        "enterprise": TierSettings(
            weight=8,
            max_active_jobs=1_000_000,
            max_document_chars=1_000 * million,
            daily_chars=1_000_000 * million,
        ),
    }


class TenantsSettings(Section):
    """The tiers, and the tenant of the command line."""

    default_tenant: str = Field(
        default="local",
        description="The tenant of commands that name none. Change it if yours has another name.",
    )
    default_tier: Literal["free", "basic", "premium", "enterprise"] = Field(
        default="enterprise", description="The tier of jobs from the command line. Lower it to test quotas."
    )
    tiers: dict[Literal["free", "basic", "premium", "enterprise"], TierSettings] = Field(
        default_factory=_default_tiers  # type: ignore[arg-type]  # keys are the literals
    )
