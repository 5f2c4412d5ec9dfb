"""Drop-in for `app.core.Embeddings.workers.embedding_worker`."""

from embedfleet.workers.embedding_worker import EmbeddingWorker

__all__ = ["EmbeddingWorker"]
