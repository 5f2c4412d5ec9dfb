"""What the administration of switches returns: one form for Python, the command line and HTTP."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.sql.states import SwitchPhase


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class SwitchOrder(StrEnum):
    """What an operator can order of a switch that is under way."""

    PAUSE = "pause"
    RESUME = "resume"
    THROTTLE = "throttle"
    SERVE = "serve"
    ROLLBACK = "rollback"
    FORCE = "force"
    RECHECK = "recheck"
    RETIRE = "retire"


class PaceSource(StrEnum):
    """Where the pace of an estimate was measured.

    `model`: the latest jobs with the new model. `calibration`: calls of the model alone, on this machine.
    `workers`: the workers that run now, with other models.
    """

    MODEL = "model"
    CALIBRATION = "calibration"
    WORKERS = "workers"


class SwitchProgress(_Frozen):
    """How much of the new space is there, as SQL records it."""

    documents: int = Field(description="The tenant's documents in the space that answers most queries.")
    there: int = Field(description="Those of them that the other space has, as they are.")
    under_way: int = Field(description="Documents that are embedded a second time now.")
    failed: int = Field(description="Documents that could not be embedded a second time.")
    share: float = Field(description="`there` of `documents`, from 0 to 1.")
    tokens_per_second: float | None = Field(description="The measured pace; null: nothing was measured yet.")
    seconds_left: float | None = Field(
        description="About how long it takes until all documents are there; null: it cannot be told."
    )


class SwitchCoverage(_Frozen):
    """What was read back of the new space, vector by vector."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    documents: int
    lacking: int = Field(description="Documents that the new space had not.")
    chunks: int
    read: int = Field(description="Chunks whose vector was read back, with the right checksum.")
    missing: int = Field(description="Vectors that are recorded, and that the vector store lacks.")
    wrong: int = Field(description="Vectors that the vector store has otherwise than they were written.")
    given_up: int = Field(description="Chunks that the model or the store has refused.")
    share: float


class GateMeasurements(_Frozen):
    """What the tenant's own questions showed of both spaces. Recalls and the overlap are shares."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    questions: int
    k: int = Field(description="How many hits of a question count.")
    old_recall: float
    new_recall: float
    difference_low: float = Field(description="The 95% interval of the difference, new minus old: its end.")
    difference_high: float
    overlap: float = Field(description="The share of hits that both spaces have in common.")
    old_p95_seconds: float
    new_p95_seconds: float
    old_bytes: int = Field(description="The size of a vector.")
    new_bytes: int


class GateFindings(_Frozen):
    """What the gate decided, and why."""

    at: datetime
    passed: bool = Field(description="Whether the switch has passed, though it may be by force.")
    reasons: tuple[str, ...] = Field(description="What speaks against the new space.")
    measured: GateMeasurements | None = Field(description="Null: no question could be asked.")


class WorstQuestion(_Frozen):
    """A question that the new space answers badly: a title or a heading of a document of the tenant."""

    question: str
    media_id: str
    old_rank: int | None = Field(description="The place of the document in the old space; null: not found.")
    new_rank: int | None = Field(description="Its place in the new space; null: not found.")
    overlap: float = Field(description="The share of hits that both spaces have in common.")


class RetireReceipt(_Frozen):
    """What was left when a space was emptied."""

    at: datetime
    model: str
    space: str
    documents_left: int = Field(description="Documents that are only in this space, and stay in it.")
    vectors_left: int
    cached_vectors_deleted: int


class SwitchInfo(_Frozen):
    """A switch of a tenant to another model."""

    switch_id: int
    campaign: str = Field(description="Joins the switches that one order began.")
    tenant_id: str
    from_model: str
    to_model: str
    phase: SwitchPhase
    percent: float = Field(description="The share of queries that the new space answers now, in percent.")
    wanted_percent: float = Field(description="The share that it answers once it has passed the gate.")
    sticky_by: str = Field(description="What decides which space answers: `tenant` or `query`.")
    paused: bool
    most_jobs: int | None = Field(description="Documents that are embedded at a time; null: by the settings.")
    started_at: datetime
    changed_at: datetime = Field(description="When the phase began.")
    switched_at: datetime | None = Field(description="Since when the new space answers all queries.")
    kept_until: datetime | None = Field(
        description="When the old space is retired by itself; null: not as things are."
    )
    ended_at: datetime | None
    forced_by: str | None = Field(description="Who let it pass the gate by force, as in the audit log.")
    forced_at: datetime | None
    progress: SwitchProgress | None = Field(description="Null: it has ended.")
    coverage: SwitchCoverage | None = Field(description="Null: nothing was read back yet.")
    gate: GateFindings | None = Field(description="Null: the gate was not asked yet.")
    worst: tuple[WorstQuestion, ...] = Field(description="The worst first. A list of switches has none.")
    stranded: int | None = Field(
        description="Documents that are only in the space which is emptied, and stay in it."
    )
    receipt: RetireReceipt | None = Field(description="Null: no space was emptied yet.")
    says: str = Field(description="How it stands and what is next, in a sentence.")
    orders: tuple[SwitchOrder, ...] = Field(description="What can be ordered now.")


class SkippedTenant(_Frozen):
    """A tenant for which nothing was begun or ordered, and why."""

    tenant_id: str
    reason: str


class SwitchesBegun(_Frozen):
    """What an order to switch tenants did."""

    switches: tuple[SwitchInfo, ...]
    model_set: tuple[str, ...] = Field(
        description="Tenants without documents to embed. What they submit goes to the new model."
    )
    left_out: tuple[SkippedTenant, ...]


class SwitchesOrdered(_Frozen):
    """What an order to several switches did."""

    switches: tuple[SwitchInfo, ...]
    refused: tuple[SkippedTenant, ...]


class TenantSwitchEstimate(_Frozen):
    """What the switch of a tenant would take. Figures but the first two are of what is not there yet."""

    tenant_id: str
    from_model: str
    documents: int
    there: int = Field(description="Documents that the new space has already.")
    chunks: int
    tokens: int
    cost: float | None = Field(description="Null: no price is set for the model.")
    cached_vectors: int = Field(
        description="Vectors of the new model in the cache. Those of the same chunks need not be made again."
    )
    text_bytes: int = Field(description="Compressed texts, which SQL has twice while the switch runs.")
    vector_bytes: int = Field(description="The new vectors in the vector store, without its index.")
    record_bytes: int = Field(description="About what SQL and the embedding cache need for the chunks.")


class SwitchEstimate(_Frozen):
    """What switches would take, before they begin."""

    to_model: str
    tenants: tuple[TenantSwitchEstimate, ...]
    model_set: tuple[str, ...] = Field(
        description="Tenants without documents to embed. What they submit would go to the new model."
    )
    left_out: tuple[SkippedTenant, ...]
    documents: int
    there: int
    chunks: int
    tokens: int
    tokens_are_exact: bool = Field(
        description="Whether both models have the same tokenizer. Otherwise the number is by a sample."
    )
    cost: float | None
    currency: str
    text_bytes: int
    vector_bytes: int
    record_bytes: int
    free_bytes: int | None = Field(description="Of the disk of the data; null: it is not on this machine.")
    seconds: float | None = Field(description="About how long the workers take for it; null: not known.")
    tokens_per_second: float | None
    pace_source: PaceSource | None
