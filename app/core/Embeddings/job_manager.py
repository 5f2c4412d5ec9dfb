"""Drop-in for `app.core.Embeddings.job_manager`."""

from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.tldw.chunking_config import ChunkingConfig
from embedfleet.tldw.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.tldw.schemas import ChunkingMessage, JobInfo, JobPriority

__all__ = [
    "ChunkingConfig",
    "ChunkingMessage",
    "EmbeddingJobManager",
    "JobInfo",
    "JobManagerConfig",
    "JobPriority",
    "JobStatus",
    "UserTier",
]
