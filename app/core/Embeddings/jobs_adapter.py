"""Drop-in for `app.core.Embeddings.jobs_adapter`."""

from embedfleet.tldw.jobs_adapter import EmbeddingsJobsAdapter

__all__ = ["EmbeddingsJobsAdapter"]
