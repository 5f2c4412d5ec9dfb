"""Drop-in for `app.core.Embeddings.workers.base_worker`."""

from embedfleet.tldw.worker_config import WorkerConfig
from embedfleet.workers.base_worker import StageLoop as BaseWorker

Worker = BaseWorker

__all__ = ["BaseWorker", "Worker", "WorkerConfig"]
