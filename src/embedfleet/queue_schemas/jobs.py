"""Records of jobs: how far they are, how they ended, and what was given up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from embedfleet.account import NOTHING_SAID
from embedfleet.queue_schemas.vocabulary import AccountField, Frozen, JobStatus, Stage, TenantId, UserTier


class JobProgress(Frozen):
    """Chunk counters of a job. A chunk counts in every stage that it has passed."""

    chunks_total: int = Field(default=0, description="Chunks made so far; final when `sealed`.")
    chunks_embedded: int = 0
    chunks_stored: int = 0
    chunks_reused: int = Field(
        default=0, description="Of the embedded ones: their vector was in the store or in the cache."
    )
    chunks_dead: int = 0
    sealed: bool = Field(default=False, description="The document is chunked to its end.")


class CharRange(Frozen):
    """Half-open range of character offsets in the document."""

    start: int
    end: int


class JobInfo(Frozen):
    """How far the processing of a document is, or how it ended."""

    schema_version: Literal[1] = 1
    job_id: str
    tenant: TenantId
    media_id: str
    source: str | None = None
    status: JobStatus
    reason: str | None = Field(default=None, description="Why it is not `completed`, one line.")
    priority: Annotated[int, Field(ge=0, le=100)]
    user_tier: UserTier
    model: str
    route: str | None = Field(
        default=None,
        description="Why the document got its model, such as `rule 2: language is de (0.98)`. None: the "
        "caller named the model.",
    )
    generation: int = Field(description="The version of the document that this job makes, from 1.")
    chars: int = Field(description="Size of the document in characters.")
    progress: JobProgress = JobProgress()
    coverage: float | None = Field(
        default=None,
        description="Share of the document's non-blank characters that are in its chunks; `missing` names "
        "those of chunks that were given up. What a reader of the source sees and `account` says is not in "
        "the text counts as not covered. None until the job has completed.",
    )
    account: AccountField = Field(default=NOTHING_SAID, description="What of the source is not in the text.")
    missing: tuple[CharRange, ...] = Field(default=(), description="Ranges whose chunk was dead-lettered.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    waiting_for: str | None = Field(
        default=None, description="What an unfinished job needs and does not have; None: nothing is missing."
    )

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class JobTotals(Frozen):
    """Sums over many jobs, for a progress bar.

    A document is *sealed* when it is chunked to its end. So `sealed_chunks` is final, and `unsealed_chars`
    are characters whose number of chunks can only be estimated.
    """

    jobs: int
    ended: int
    chunks_stored: int
    chunks_dead: int
    sealed_chunks: int = Field(description="Chunks of the sealed documents.")
    sealed_chars: int = Field(description="Characters of the sealed documents.")
    unsealed_chunks: int = Field(description="Chunks made so far of documents that are still being chunked.")
    unsealed_chars: int = Field(description="Characters of documents that are still to be chunked.")


class DeadLetterInfo(Frozen):
    """A chunk or a task that was given up, and what an operator did about it. It names the place of the text
    and never holds the text."""

    schema_version: Literal[1] = 1
    dead_letter_id: int
    tenant: TenantId
    job_id: str
    run: int = Field(description="The run of the job that gave it up, from 1.")
    stage: Stage
    media_id: str
    source: str | None = None
    chunk_index: int | None = Field(default=None, description="None: a whole task, not one chunk.")
    start: int | None = Field(default=None, description="Character offsets in the document, half-open.")
    end: int | None = None
    reason: str
    created_at: datetime
    ended: str | None = Field(default=None, description="`requeued` or `purged`; None: open.")
    ended_at: datetime | None = None

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class RefusedJob(Frozen):
    """A job that cannot run again, and the reason."""

    job_id: str
    reason: str


class Requeued(Frozen):
    """The jobs that run again, with all their dead letters, and those that cannot."""

    jobs: tuple[str, ...]
    refused: tuple[RefusedJob, ...] = ()


class JobEvent(Frozen):
    """How a run of a job ended. An event that is read or delivered twice has the same `event_id`."""

    schema_version: Literal[1] = 1
    event_id: str = Field(description="The job and its run; a run has one event.")
    position: int = Field(description="Grows. A reader of this position has seen all events before it.")
    tenant: TenantId
    job_id: str
    media_id: str
    status: JobStatus
    reason: str | None = Field(default=None, description="Why it is not `completed`, one line.")
    chunks_stored: int
    chunks_dead: int
    account: AccountField = Field(default=NOTHING_SAID, description="What of the source is not in the text.")
    created_at: datetime = Field(description="When the job ended.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints and the webhook gets."""
        return self.model_dump(mode="json", by_alias=True)
