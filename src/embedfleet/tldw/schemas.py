"""The records of tldw's queues and jobs, for code that makes or reads them.

embedfleet's own queues have other messages (`queue_schemas`). No worker reads these.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from embedfleet.queue_schemas import JobInfo as JobRecord
from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.tldw.chunking_config import ChunkingConfig


class JobPriority(IntEnum):
    """Named priorities of a job, out of 0-100."""

    LOW = 0
    NORMAL = 50
    HIGH = 75
    CRITICAL = 100


def _now() -> datetime:
    return datetime.now(UTC)


class ChunkData(BaseModel):
    """A chunk: its text and its place in the document, half-open."""

    chunk_id: str
    content: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    start_index: int
    end_index: int
    sequence_number: int


class EmbeddingData(BaseModel):
    """The vector of a chunk."""

    chunk_id: str
    embedding: list[float]
    model_used: str
    dimensions: int
    metadata: dict[str, Any] = Field(default_factory=dict)


class EmbeddingJobMessage(BaseModel):
    """What every message says of its job."""

    model_config = ConfigDict(use_enum_values=True, populate_by_name=True)

    job_id: str
    user_id: str
    media_id: int
    priority: int = Field(default=JobPriority.NORMAL, ge=0, le=100)
    user_tier: UserTier = UserTier.FREE
    created_at: datetime = Field(default_factory=_now)
    updated_at: datetime = Field(default_factory=_now)
    retry_count: int = Field(default=0, ge=0)
    max_retries: int = Field(default=3, ge=0)
    trace_id: str | None = None


class ChunkingMessage(EmbeddingJobMessage):
    """A document to be cut."""

    content: str
    content_type: str
    chunking_config: ChunkingConfig = Field(default_factory=ChunkingConfig)
    source_metadata: dict[str, Any] = Field(default_factory=dict)


class EmbeddingMessage(EmbeddingJobMessage):
    """Chunks to be embedded."""

    chunks: list[ChunkData]
    # Pydantic reserves the name that the first release gave this field.
    embedding_model_config: dict[str, Any] = Field(
        validation_alias=AliasChoices("embedding_model_config", "model_config")
    )
    model_provider: str
    batch_size: int | None = None


class StorageMessage(EmbeddingJobMessage):
    """Vectors to be stored."""

    embeddings: list[EmbeddingData]
    collection_name: str
    total_chunks: int
    processing_time_ms: int
    metadata: dict[str, Any] = Field(default_factory=dict)


class WorkerMetrics(BaseModel):
    """What a worker says of its work."""

    worker_id: str
    worker_type: str
    jobs_processed: int
    jobs_failed: int
    average_processing_time_ms: float
    current_load: float = Field(ge=0.0, le=1.0)
    available_memory_mb: float | None = None
    gpu_utilization: float | None = None
    last_heartbeat: datetime = Field(default_factory=_now)


class QueueConfig(BaseModel):
    """A queue, as its readers see it."""

    queue_name: str
    max_length: int = Field(default=10_000, ge=100)
    ttl_seconds: int = Field(default=3_600, ge=60)
    consumer_group: str
    batch_size: int = Field(default=1, ge=1)
    poll_interval_ms: int = Field(default=100, ge=10)


class JobInfo(BaseModel):
    """How far a job is, or how it ended, in tldw's words.

    A job that embedfleet ends as `completed_with_errors` is `completed` here, because its document is
    searchable and code that waits for an end knows no other name; `error_message` then says what is missing.
    What embedfleet's own record says beside (`coverage`, `progress`, …) can be read here by its name, if the
    job is one of embedfleet's.
    """

    job_id: str
    user_id: str
    media_id: int | str = Field(description="A number, unless the document's id is another text.")
    status: JobStatus
    priority: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error_message: str | None = None
    progress_percentage: float = Field(default=0.0, ge=0.0, le=100.0)
    chunks_processed: int = Field(default=0, ge=0)
    total_chunks: int = Field(default=0, ge=0)
    current_stage: str | None = None
    record: JobRecord | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def of(cls, record: JobRecord) -> JobInfo:
        """Return what embedfleet's record says, in tldw's words."""
        progress = record.progress
        return cls(
            job_id=record.job_id,
            user_id=record.tenant,
            media_id=media_id_of(record.media_id),
            status=_STATUSES.get(record.status, record.status),
            priority=record.priority,
            created_at=record.created_at,
            # A job is written more often than that, but no record says when.
            updated_at=record.finished_at or record.started_at or record.created_at,
            started_at=record.started_at,
            completed_at=record.finished_at,
            error_message=record.reason,
            progress_percentage=percentage(record),
            chunks_processed=progress.chunks_embedded,
            total_chunks=progress.chunks_total,
            current_stage=_STAGES.get(record.status),
            record=record,
        )

    def __getattr__(self, name: str) -> Any:
        """Return what embedfleet's own record says under this name. Raises AttributeError without one."""
        record = self.__dict__.get("record")
        if record is None or name.startswith("_"):
            raise AttributeError(f"`{type(self).__name__}` has no `{name}`")
        return getattr(record, name)


def media_id_of(text: str) -> int | str:
    """Return the media id as a number; the text itself if it is not a number."""
    return int(text) if text.isascii() and text.isdecimal() and str(int(text)) == text else text


_STATUSES = {JobStatus.COMPLETED_WITH_ERRORS: JobStatus.COMPLETED}
# tldw's workers write the name of their kind. The last one to do so is that of storage.
_STAGES = {
    JobStatus.CHUNKING: "chunking",
    JobStatus.EMBEDDING: "embedding",
    JobStatus.STORING: "storage",
    JobStatus.COMPLETED: "storage",
    JobStatus.COMPLETED_WITH_ERRORS: "storage",
}


def percentage(record: JobRecord) -> float:
    """Return the progress as tldw counts it: 25 when the text is cut, 75 when embedded, 100 at the end."""
    progress = record.progress
    if record.status in (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS):
        return 100.0
    if not progress.sealed or not progress.chunks_total:
        return 0.0
    embedded = progress.chunks_embedded / progress.chunks_total
    stored = progress.chunks_stored / progress.chunks_total
    return min(25 + 50 * embedded + 25 * stored, 100.0)
