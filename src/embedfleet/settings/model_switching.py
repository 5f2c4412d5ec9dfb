"""How tenants are switched to another model."""

from __future__ import annotations

from pydantic import Field

from embedfleet.settings.section import Section


class GateSettings(Section):
    """What the new space must show before it answers queries. It is asked the tenant's own questions."""

    questions: int = Field(
        default=250,
        ge=1,
        description="Questions that are drawn from titles and headings of the tenant's documents. Fewer than "
        "250 seldom give a verdict; raise for a narrower one.",
    )
    k: int = Field(
        default=10, ge=1, le=100, description="How many hits of a question count. As many as readers look at."
    )
    max_recall_loss: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="The new space may find this share of the known items less often. The lower end of the "
        "95% interval counts. Raise for tenants with few documents.",
    )
    few_questions: int = Field(
        default=100,
        ge=0,
        description="With fewer questions no interval is narrow enough, so the difference that was found "
        "counts. 0: tenants with few documents are switched by force only.",
    )
    min_overlap: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The least share of hits that both spaces have in common. It finds a space that is "
        "broken; two good models often share a third of their hits only.",
    )
    max_latency_ratio: float = Field(
        default=5.0,
        gt=0,
        description="The new space may answer this many times as slowly (p95). Raise for a larger model.",
    )
    quick_search_seconds: float = Field(
        default=0.1,
        ge=0,
        description="A search of the new space that takes no longer (p95) is quick enough, whatever the old "
        "one takes. Lower where milliseconds count.",
    )
    max_bytes_ratio: float = Field(
        default=4.0,
        gt=0,
        description="A vector may take this many times as many bytes. Raise for a much larger model.",
    )


class ModelSwitchingSettings(Section):
    """Switches of tenants to another model."""

    backfill_weight: float = Field(
        default=0.5,
        ge=0.01,
        le=100,
        description="The weight of all documents that are embedded again, together; a tenant of the tier "
        "`free` has 1. Lower to leave more to live work, raise for a quicker switch.",
    )
    most_jobs: int = Field(
        default=64,
        ge=1,
        description="Documents of a tenant that are embedded again at a time. Lower to throttle a switch.",
    )
    most_tenants: int = Field(
        default=4,
        ge=1,
        description="Tenants whose documents are embedded again at a time, of a switch of many. Raise if "
        "they have few documents each.",
    )
    max_search_slowdown: float = Field(
        default=1.5,
        ge=0,
        description="While searches come to the process of the leader, 95% of them take at most about this "
        "many times as long as without the documents that are embedded again. Those go slower then, but go "
        "on. Raise for a quicker switch; 0: no limit.",
    )
    keep_days: float = Field(
        default=14.0,
        gt=0,
        description="How long the old space is kept after the switch; then it is retired by itself. Raise "
        "for a longer way back.",
    )
    gate: GateSettings = GateSettings()
