"""Drop-in for `app.core.Embeddings.workers.chunking_worker`."""

from embedfleet.workers.chunking_worker import ChunkingLoop as ChunkingWorker

__all__ = ["ChunkingWorker"]
