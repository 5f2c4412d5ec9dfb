"""A process that writes rows into a vector store until it is killed.

`python -m support.store_writer SETTINGS PARENT`: SETTINGS are overrides as JSON, PARENT is the id of the
process that starts it. It prints the number of a batch as soon as the store has returned from writing it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count

import numpy as np
from numpy.typing import NDArray

from embedfleet.lifetime import die_with_parent
from embedfleet.settings import load_settings
from embedfleet.vectors.port import TenantSpace, VectorRows
from embedfleet.vectors.registry import store_kind

WRITTEN = TenantSpace("writer", "writer/v1", 16)
BATCH = 20


def batch_ids(number: int) -> list[str]:
    return [f"{number:08}-{place:02}" for place in range(BATCH)]


def batch_vectors(number: int) -> NDArray[np.float32]:
    """float32 (BATCH, 16) of length 1: the same in every process."""
    vectors = np.random.default_rng(number).standard_normal((BATCH, WRITTEN.dim), dtype=np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def batch(number: int) -> VectorRows:
    return VectorRows(
        batch_ids(number),
        batch_vectors(number),
        [{"job_id": f"job {number}"}] * BATCH,
        [f"text {number} {place}" for place in range(BATCH)],
    )


async def write_for_ever(overrides: dict[str, object]) -> None:
    settings = load_settings(environ={}, overrides=overrides)
    store = await store_kind(settings.vector_store.kind).open_store(settings)
    await store.ensure_collection(WRITTEN)
    for number in count():
        await store.upsert(WRITTEN, batch(number))
        print(number, flush=True)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    asyncio.run(write_for_ever(json.loads(sys.argv[1])))
