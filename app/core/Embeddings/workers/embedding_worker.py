"""Drop-in for `app.core.Embeddings.workers.embedding_worker`."""

from embedfleet.tldw.worker_config import EmbeddingWorkerConfig
from embedfleet.workers.embedding_worker import EmbeddingLoop as EmbeddingWorker

__all__ = ["EmbeddingWorker", "EmbeddingWorkerConfig"]
