"""Drop-in for `app.core.Embeddings.worker_config`."""

from embedfleet.tldw.worker_config import (
    ChunkingWorkerPoolConfig,
    EmbeddingWorkerPoolConfig,
    OrchestrationConfig,
    RedisConfig,
    StorageWorkerPoolConfig,
    WorkerPoolConfig,
)

__all__ = [
    "ChunkingWorkerPoolConfig",
    "EmbeddingWorkerPoolConfig",
    "OrchestrationConfig",
    "RedisConfig",
    "StorageWorkerPoolConfig",
    "WorkerPoolConfig",
]
