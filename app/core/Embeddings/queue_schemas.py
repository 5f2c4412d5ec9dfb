"""Drop-in for `app.core.Embeddings.queue_schemas`."""

from embedfleet.queue_schemas import (
    ChunkingConfig,
    ChunkingTask,
    ChunkMethod,
    ChunkUnit,
    ContentType,
    DeletionTask,
    EmbeddingTask,
    JobInfo,
    JobProgress,
    JobRequest,
    JobStatus,
    SearchHit,
    StorageTask,
    UserTier,
)

__all__ = [
    "ChunkMethod",
    "ChunkUnit",
    "ChunkingConfig",
    "ChunkingTask",
    "ContentType",
    "DeletionTask",
    "EmbeddingTask",
    "JobInfo",
    "JobProgress",
    "JobRequest",
    "JobStatus",
    "SearchHit",
    "StorageTask",
    "UserTier",
]
