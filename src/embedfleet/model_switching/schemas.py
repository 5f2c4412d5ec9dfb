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
    `workers`: the workers that run now, with other models. `past`: the latest jobs with the old model.
    """

    MODEL = "model"
    CALIBRATION = "calibration"
    WORKERS = "workers"
    PAST = "past"


class SwitchProgress(_Frozen):
    """How much of the new space is there, as SQL records it."""

    documents: int = Field(description="The tenant's documents in the space that answers most queries.")
    there: int = Field(description="Those of them that the other space has, as they are.")
    under_way: int = Field(description="Documents that are embedded a second time now.")
    failed: int = Field(description="Documents that could not be embedded a second time.")
    failed_because: str | None = Field(
        default=None, description="The reason that most of these have; null: none has failed."
    )
    share: float = Field(description="`there` of `documents`, from 0 to 1.")
    tokens_per_second: float | None = Field(description="The measured pace; null: nothing was measured yet.")
    seconds_left: float | None = Field(
        description="About how long it takes until all documents are there; null: it cannot be told."
    )
    jobs_beside_searches: int | None = Field(
        default=None,
        description="How many documents are begun at a time, as searches are given way to; null: it is not "
        "slowed by searches.",
    )


class SwitchCoverage(_Frozen):
    """What was read back of the new space, vector by vector."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    documents: int = Field(description="Documents that are live in the old space.")
    lacking: int = Field(description="Documents that the new space had not.")
    chunks: int = Field(description="Chunks of the documents that the new space has.")
    read: int = Field(description="Chunks whose vector was read back, with the right checksum.")
    missing: int = Field(description="Vectors that are recorded, and that the vector store lacks.")
    wrong: int = Field(description="Vectors that the vector store has otherwise than they were written.")
    given_up: int = Field(description="Chunks that the model or the store has refused.")
    share: float = Field(description="The share of the documents that was read back, from 0 to 1.")


class GateMeasurements(_Frozen):
    """What the tenant's own questions showed of both spaces. Recalls and the overlap are shares."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    questions: int = Field(description="How many titles and headings were asked.")
    k: int = Field(description="How many hits of a question count.")
    old_recall: float = Field(
        description="How often the old space found the document that has the title or heading."
    )
    new_recall: float = Field(description="How often the new space did.")
    difference_low: float = Field(description="The 95% interval of the difference, new minus old: its end.")
    difference_high: float = Field(description="Its upper end.")
    overlap: float = Field(description="The share of hits that both spaces have in common.")
    old_p95_seconds: float = Field(description="95% of the searches of the old space took no longer.")
    new_p95_seconds: float = Field(description="95% of the searches of the new space took no longer.")
    old_bytes: int = Field(description="The size of a vector of the old space.")
    new_bytes: int = Field(description="The size of a vector of the new space.")


class GateFindings(_Frozen):
    """What the gate decided, and why."""

    at: datetime
    passed: bool = Field(description="Whether the switch has passed, though it may be by force.")
    reasons: tuple[str, ...] = Field(description="What speaks against the new space.")
    measured: GateMeasurements | None = Field(description="Null: no question could be asked.")


class WorstQuestion(_Frozen):
    """A question that the new space answers badly: a title or a heading of a document of the tenant."""

    question: str = Field(description="A title, or a heading, of the document.")
    media_id: str
    source: str | None = Field(default=None, description="Where the document came from, if that was said.")
    old_rank: int | None = Field(description="The place of the document in the old space; null: not found.")
    new_rank: int | None = Field(description="Its place in the new space; null: not found.")
    overlap: float = Field(description="The share of hits that both spaces have in common.")

    @property
    def is_worse(self) -> bool:
        """Whether the old space has found the document, and the new one not, or farther down."""
        return self.old_rank is not None and (self.new_rank is None or self.new_rank > self.old_rank)


class RetireReceipt(_Frozen):
    """What was left when a space was emptied."""

    at: datetime
    model: str = Field(description="The model whose vectors were deleted.")
    space: str
    documents_left: int = Field(description="Documents that are only in this space, and stay in it.")
    vectors_left: int = Field(description="Vectors that the store still has of the space.")
    cached_vectors_deleted: int = Field(description="Vectors that were deleted from the embedding cache.")


class SwitchInfo(_Frozen):
    """A switch of a tenant to another model."""

    switch_id: int = Field(description="The number of the switch.")
    campaign: str = Field(description="Joins the switches that one order began.")
    tenant_id: str
    from_model: str = Field(description="The model that is left; `route`: all others of the tenant.")
    to_model: str = Field(description="The model that is switched to.")
    trial_of: str | None = Field(
        description="The experiment that the new space is filled for; null: it is to answer queries."
    )
    phase: SwitchPhase = Field(description="How far it is.")
    percent: float = Field(description="The share of queries that the new space answers now, in percent.")
    wanted_percent: float = Field(description="The share that it answers once it has passed the gate.")
    sticky_by: str = Field(description="What decides which space answers: `tenant` or `query`.")
    paused: bool = Field(description="Whether no stored document is embedded for now.")
    most_jobs: int | None = Field(description="Documents that are embedded at a time; null: by the settings.")
    started_at: datetime = Field(description="When it was begun.")
    changed_at: datetime = Field(description="When the phase began.")
    switched_at: datetime | None = Field(description="Since when the new space answers all queries.")
    kept_until: datetime | None = Field(
        description="When the old space is retired by itself; null: not as things are."
    )
    ended_at: datetime | None = Field(description="When it ended; null: it is under way.")
    forced_by: str | None = Field(description="Who let it pass the gate by force, as in the audit log.")
    forced_at: datetime | None = Field(description="When that was ordered; null: never.")
    progress: SwitchProgress | None = Field(description="Null: it has ended.")
    coverage: SwitchCoverage | None = Field(description="Null: nothing was read back yet.")
    gate: GateFindings | None = Field(description="Null: the gate was not asked yet.")
    worst: tuple[WorstQuestion, ...] = Field(description="The worst first. A list of switches has none.")
    stranded: int | None = Field(
        description="Documents that are only in the space which is emptied, and stay in it."
    )
    receipt: RetireReceipt | None = Field(description="Null: no space was emptied yet.")
    waits_for: str | None = Field(
        default=None,
        description="Why it does not go on now, such as a model that cannot be loaded or a store that is "
        "away; null: nothing is in its way, or it waits for an order.",
    )
    says: str = Field(description="How it stands and what is next, in a sentence.")
    orders: tuple[SwitchOrder, ...] = Field(description="What can be ordered now.")


class SkippedTenant(_Frozen):
    """A tenant for which nothing was begun or ordered, and why."""

    tenant_id: str
    reason: str


class SwitchesBegun(_Frozen):
    """What an order to switch tenants did."""

    switches: tuple[SwitchInfo, ...] = Field(description="The switches that are under way, new or not.")
    model_set: tuple[str, ...] = Field(
        description="Tenants without documents to embed. What they submit goes to the new model."
    )
    left_out: tuple[SkippedTenant, ...] = Field(description="Tenants that cannot be switched so.")


class SwitchesOrdered(_Frozen):
    """What an order to several switches did."""

    switches: tuple[SwitchInfo, ...] = Field(description="The switches, after the order.")
    refused: tuple[SkippedTenant, ...] = Field(
        description="Tenants whose switch does not take the order now."
    )


class TenantSwitchEstimate(_Frozen):
    """What the switch of a tenant would take. Figures but the first two are of what is not there yet."""

    tenant_id: str
    from_model: str = Field(description="The model that would be left.")
    documents: int = Field(description="Documents of that model.")
    there: int = Field(description="Documents that the new space has already.")
    chunks: int = Field(description="Chunks to embed.")
    tokens: int = Field(description="Tokens to embed.")
    cost: float | None = Field(description="Null: no price is set for the model.")
    cached_vectors: int = Field(
        description="Vectors of the new model in the cache. Those of the same chunks need not be made again."
    )
    text_bytes: int = Field(description="Compressed texts, which SQL has twice while the switch runs.")
    vector_bytes: int = Field(description="The new vectors in the vector store, without its index.")
    record_bytes: int = Field(description="About what SQL and the embedding cache need for the chunks.")


class SwitchEstimate(_Frozen):
    """What switches would take, before they begin."""

    to_model: str = Field(description="The model to switch to.")
    tenants: tuple[TenantSwitchEstimate, ...]
    model_set: tuple[str, ...] = Field(
        description="Tenants without documents to embed. What they submit would go to the new model."
    )
    left_out: tuple[SkippedTenant, ...] = Field(description="Tenants that cannot be switched so.")
    documents: int = Field(description="Documents of all tenants.")
    there: int = Field(description="Documents that the new spaces have already.")
    chunks: int = Field(description="Chunks to embed.")
    tokens: int = Field(description="Tokens to embed.")
    tokens_are_exact: bool = Field(
        description="Whether the new model has the same tokenizer and takes texts as long. Otherwise the "
        "numbers of tokens and chunks are about right."
    )
    cost: float | None = Field(description="Null: no price is set for the model.")
    currency: str
    text_bytes: int = Field(description="Compressed texts, which SQL has twice while the switches run.")
    vector_bytes: int = Field(description="The new vectors in the vector store, without its index.")
    record_bytes: int = Field(description="About what SQL and the embedding cache need for the chunks.")
    free_bytes: int | None = Field(description="Of the disk of the data; null: it is not on this machine.")
    seconds: float | None = Field(description="About how long the workers take for it; null: not known.")
    tokens_per_second: float | None = Field(description="The expected pace; null: not known.")
    pace_source: PaceSource | None = Field(description="Where the pace was measured; null: nowhere.")
