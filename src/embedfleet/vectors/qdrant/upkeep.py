"""What Qdrant tells of its optimisers, which merge segments and index rows in the background. Pure."""

from __future__ import annotations

from qdrant_client import models


def unindexed_rows(info: models.CollectionInfo) -> int:
    """Return how many rows wait for an index; 0 if the optimisers have nothing to do."""
    if info.status is models.CollectionStatus.GREEN:
        return 0
    return max(0, (info.points_count or 0) - (info.indexed_vectors_count or 0))


def waits_for_a_write(info: models.CollectionInfo) -> bool:
    """Whether the optimisers have work, and begin it only with the next write."""
    return info.status is models.CollectionStatus.GREY


def failure_of(info: models.CollectionInfo) -> str | None:
    """Return what the server says if the optimisers have failed; None if they have not."""
    held = info.optimizer_status
    if isinstance(held, models.OptimizersStatusOneOf1):
        return str(held.error)
    return "no reason is told" if info.status is models.CollectionStatus.RED else None
