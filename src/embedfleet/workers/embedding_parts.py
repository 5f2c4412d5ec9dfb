"""An embedding task cut into parts, so that the chunk that kills its worker is found and given up alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.queue.broker import Task
from embedfleet.workers.embedding_work import EmbeddingWork

# A batch of 64 becomes 8 parts of 8 chunks, and one of these becomes 8 parts of one. With three attempts for
# the batch and three for the single chunk that takes 7 deaths; halving would take 11.
_MAX_PARTS = 8


def parts_of(item: EmbeddingWork) -> Iterable[Task]:
    """The task as at most eight tasks of fewer chunks each, without those that have nothing left to do.

    The cut depends on positions only, so that a replay makes the same parts.
    """
    task, batch_id = item.lease.task, BatchId.parse(item.lease.task.id)
    for first, past in _spans(len(item.chunk_ids), _MAX_PARTS):
        if not np.any((item.wanted >= first) & (item.wanted < past)):
            continue
        message = item.message.part(first, past)
        yield replace(
            task,
            id=str(replace(batch_id, span=message.span)),
            cost=max(1, int(message.lengths_array().sum(dtype=np.int64))),
            payload=message.encode(),
        )


def _spans(count: int, max_parts: int) -> list[tuple[int, int]]:
    """[0, count) as at most `max_parts` spans [first, past) of equal length; the last may be shorter."""
    length = max(1, -(-count // max_parts))
    return [(first, min(first + length, count)) for first in range(0, count, length)]
