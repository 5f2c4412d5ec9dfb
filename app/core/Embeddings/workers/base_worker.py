"""Drop-in for `app.core.Embeddings.workers.base_worker`."""

from embedfleet.workers.base_worker import StageLoop as Worker

__all__ = ["Worker"]
