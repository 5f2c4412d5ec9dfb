"""Drop-in for `app.core.Embeddings.workers.storage_worker`."""

from embedfleet.workers.storage_worker import StorageLoop as StorageWorker

__all__ = ["StorageWorker"]
