"""Drop-in for `app.core.Embeddings.job_manager`."""

from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig

__all__ = [
    "EmbeddingJobManager",
    "JobManagerConfig",
]
