"""How two models are compared, and what is kept of searches for it."""

from __future__ import annotations

from pydantic import Field

from embedfleet.settings.section import Section

EVERY_TENANT = "*"
"""In `query_log_tenants`: the searches of all tenants are logged."""


class ExperimentSettings(Section):
    """Comparisons of two models, and the log of searches that can give them questions."""

    pilot_questions: int = Field(
        default=50,
        ge=2,
        description="Questions that are asked first, to learn how many a comparison needs. Lower for tenants "
        "with few documents.",
    )
    questions_per_step: int = Field(
        default=16,
        ge=1,
        description="Questions that both models are asked in one step of the leader. Lower if it has little "
        "time for other duties.",
    )
    keep_days: float = Field(
        default=3.0,
        ge=0,
        description="How long the space of the second model is kept after the verdict, to be promoted. Raise "
        "if decisions take longer.",
    )
    feedback_seconds: float = Field(
        default=1800.0,
        gt=0,
        description="How long clicks on an answer are taken; then it counts. Raise if people read long.",
    )
    query_log_tenants: tuple[str, ...] = Field(
        default=(),
        description="Tenants whose searches are kept, with their texts. `*`: all. Add one to compare models "
        "by what its people ask.",
    )
    query_log_days: float = Field(
        default=30.0,
        gt=0,
        description="How long searches and clicks are kept. Lower if texts of people must not stay so long.",
    )

    def logs(self, tenant: str) -> bool:
        """Whether the searches of the tenant are kept."""
        return EVERY_TENANT in self.query_log_tenants or tenant in self.query_log_tenants
