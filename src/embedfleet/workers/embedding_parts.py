"""Cuts an embedding task into parts, so that only the chunk that kills its worker is given up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.queue.broker import Task
from embedfleet.workers.embedding_work import EmbeddingWork

# A batch of 64 chunks becomes 8 parts of 8 chunks, and one of these becomes 8 parts of one chunk. The batch
# and the single chunk have three attempts each, and a part of several chunks has one. So the chunk at fault
# is found after 7 deaths; by halving it would take 11.
_MAX_PARTS = 8


def parts_of(item: EmbeddingWork) -> Iterable[Task]:
    """Yield at most eight tasks of fewer chunks each, which together do what is left of the task.

    A part without a wanted chunk is left out. The cut depends on positions only, so a repeated call makes the
    same parts.
    """
    task, batch_id = item.lease.task, BatchId.parse(item.lease.task.id)
    for first, past in _spans(len(item.chunk_ids), _MAX_PARTS):
        if not any(first <= position < past for position in item.wanted):
            continue
        message = item.message.part(first, past)
        yield replace(
            task,
            id=str(replace(batch_id, span=message.span)),
            alone=True,
            cost=max(1, int(message.lengths_array().sum(dtype=np.int64))),
            payload=message.encode(),
        )


def _spans(count: int, max_parts: int) -> list[tuple[int, int]]:
    """Cut [0, count) into at most `max_parts` spans [first, past) of one length; the last may be shorter."""
    length = max(1, -(-count // max_parts))
    return [(first, min(first + length, count)) for first in range(0, count, length)]
