"""Drop-in names of the workers."""

from embedfleet.tldw.worker_config import EmbeddingWorkerConfig, WorkerConfig
from embedfleet.workers.base_worker import StageLoop as BaseWorker
from embedfleet.workers.chunking_worker import ChunkingLoop as ChunkingWorker
from embedfleet.workers.embedding_worker import EmbeddingLoop as EmbeddingWorker
from embedfleet.workers.storage_worker import StorageLoop as StorageWorker

__all__ = [
    "BaseWorker",
    "ChunkingWorker",
    "EmbeddingWorker",
    "EmbeddingWorkerConfig",
    "StorageWorker",
    "WorkerConfig",
]
