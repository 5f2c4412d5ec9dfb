"""The sections of tenants and of prices: the limits of each tier, the tenant of the command line, and what
tokens cost."""

from __future__ import annotations

from typing import Annotated, Literal

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
    daily_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens, as the model counts them, that a tenant may submit in a day (UTC); None: "
        "no limit. Set it to bound what a tenant costs.",
    )
    daily_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Most bytes of text (UTF-8) that a tenant may submit in a day (UTC); None: no limit. "
        "Set it to bound what a tenant stores.",
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Most requests of a tenant in a minute to each process of the HTTP API; None: no limit. "
        "Set it for tenants that are not trusted.",
    )
    max_priority: int = Field(
        default=100,
        ge=0,
        le=100,
        description="Highest priority that a tenant may give to a job. Lower it to keep the tenant's urgent "
        "jobs for its operator.",
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
            weight=1,
            max_active_jobs=1_000,
            max_document_chars=10 * million,
            daily_chars=200 * million,
            requests_per_minute=600,
        ),
        "basic": TierSettings(
            weight=2,
            max_active_jobs=10_000,
            max_document_chars=100 * million,
            daily_chars=2_000 * million,
            requests_per_minute=6_000,
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
        default="enterprise",
        description="The tier of tenants for which none is set. Lower it if anyone may be a tenant.",
    )
    tiers: dict[Literal["free", "basic", "premium", "enterprise"], TierSettings] = Field(
        default_factory=_default_tiers  # type: ignore[arg-type]  # keys are the literals
    )


class PriceSettings(Section):
    """What tokens cost, for reports and estimates. It has no influence on what a tenant may do."""

    currency: str = Field(
        default="USD",
        min_length=1,
        max_length=16,
        description="Name of the currency of all prices. Change it if yours is another one.",
    )
    per_million_tokens: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="Price of a million tokens, by the name of the model. A model that is left out has no "
        "price.",
    )

    def cost(self, model: str, tokens: int) -> float | None:
        """Return the price of the tokens in `currency`; None if the model has no price."""
        price = self.per_million_tokens.get(model)
        return None if price is None else price * tokens / 1_000_000
