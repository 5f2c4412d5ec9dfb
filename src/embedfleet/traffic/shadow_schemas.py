"""The rule of a shadow run, what it found, and how both are told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedfleet.queue_schemas.vocabulary import TenantId
from embedfleet.traffic.latencies import quantile_seconds
from embedfleet.validation import Checked


def tenant_of(shadow_id: str) -> str:
    """Return the tenant of a run, which has a collection of its own.

    The id has 80 random bits, so no other tenant has that name by chance. The colon keeps it out of views
    (`views.layout.is_plain`).
    """
    return f"shadow:{shadow_id}"


FEWEST_WITH_P99 = 100
"""With fewer observations, the p99 is the largest of them."""


class Verdict(StrEnum):
    """`undecided`: the run ended before it had enough requests for its rule."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


class DifferenceKind(StrEnum):
    """In what an answer of the fleet differs from that of the old path."""

    FAILED = "failed"
    """The fleet gave no answer, or not in time."""
    CHUNK_COUNT = "chunk_count"
    PLACES = "places"
    """A chunk begins or ends elsewhere."""
    CHUNK_IDS = "chunk_ids"
    DIMENSION = "dimension"
    COSINE = "cosine"


class ShadowRule(Checked):
    """What decides a shadow run. A wrong value raises InvalidRequest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(ge=1, le=1_000_000, description="How many requests decide.")
    max_mismatch_rate: float = Field(
        default=0.01, ge=0, le=1, description="The most of those that both paths answered which may differ."
    )
    max_error_rate: float = Field(
        default=0.01, ge=0, le=1, description="The most of them that the fleet may fail."
    )
    max_p99_ratio: float | None = Field(
        default=None,
        gt=0,
        description="The most that the p99 of the fleet may be, as a multiple of the old path's; None: "
        "latency does not decide.",
    )
    min_cosine: float = Field(
        default=0.999, ge=-1, le=1, description="Two vectors of a chunk with a lower cosine differ."
    )

    @model_validator(mode="after")
    def _has_a_p99(self) -> Self:
        if self.max_p99_ratio is not None and self.requests < FEWEST_WITH_P99:
            raise ValueError(
                f"max_p99_ratio: a p99 needs {FEWEST_WITH_P99} requests or more: of fewer it is the slowest "
                "one, which says little"
            )
        return self


class ShadowFindings(BaseModel):
    """What was counted. All but `old_errors` and `skipped` are of requests that the old path answered.

    `latencies` are numbers by class (`traffic.latencies`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(default=0, description="Requests that the fleet answered, or failed.")
    errors: int = Field(default=0, description="Those of them that the fleet failed.")
    mismatched: int = Field(default=0, description="Those that it answered differently.")
    differences: dict[str, int] = Field(default={}, description="Requests by kind of difference.")
    ids_compared: int = Field(default=0, description="Chunks whose id the old path told in our form.")
    vectors_compared: int = Field(default=0, description="Chunks whose vector the old path told.")
    old_errors: int = Field(default=0, description="Requests that the old path failed: not compared.")
    skipped: int = Field(default=0, description="Not compared: too many were under way.")
    old_latencies: dict[int, int] = {}
    new_latencies: dict[int, int] = {}

    def plus(self, more: ShadowFindings) -> ShadowFindings:
        """Return the sums."""
        return ShadowFindings(
            requests=self.requests + more.requests,
            errors=self.errors + more.errors,
            mismatched=self.mismatched + more.mismatched,
            differences=_sums(self.differences, more.differences),
            ids_compared=self.ids_compared + more.ids_compared,
            vectors_compared=self.vectors_compared + more.vectors_compared,
            old_errors=self.old_errors + more.old_errors,
            skipped=self.skipped + more.skipped,
            old_latencies=_sums(self.old_latencies, more.old_latencies),
            new_latencies=_sums(self.new_latencies, more.new_latencies),
        )

    @property
    def compared(self) -> int:
        """The requests that both paths answered."""
        return self.requests - self.errors

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    @property
    def mismatch_rate(self) -> float | None:
        return self.mismatched / self.compared if self.compared else None

    @property
    def p99_ratio(self) -> float | None:
        """The p99 of the fleet as a multiple of the old path's, within 5%."""
        old, new = (quantile_seconds(one, 0.99) for one in (self.old_latencies, self.new_latencies))
        return None if old is None or new is None else new / old


def _sums(some: Mapping[Any, int], others: Mapping[Any, int]) -> dict[Any, int]:
    return {key: some.get(key, 0) + others.get(key, 0) for key in {**some, **others}}


class ShadowDifference(BaseModel):
    """An example of a difference. It holds ids and numbers, and no text of the document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    tenant: TenantId
    media_id: str
    kind: DifferenceKind
    details: dict[str, str | int | float | None]


class ShadowInfo(BaseModel):
    """A shadow run: who owns it, what decides it, when it ends by itself, and what it has found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    shadow_id: str
    owner: str
    rule: ShadowRule
    begun_at: datetime
    expires_at: datetime
    ended_at: datetime | None = Field(default=None, description="None while it runs.")
    verdict: Verdict | None = Field(default=None, description="None while it runs.")
    reason: str | None = Field(default=None, description="Why this verdict, in words and numbers.")
    tenant: TenantId
    findings: ShadowFindings
    mismatch_rate: float | None = Field(description="None before the first comparison.")
    error_rate: float | None
    old_p99_seconds: float | None
    new_p99_seconds: float | None
    p99_ratio: float | None
    examples: tuple[ShadowDifference, ...] = Field(default=(), description="Empty in a list of runs.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints and the API answers with."""
        return self.model_dump(mode="json", by_alias=True)
