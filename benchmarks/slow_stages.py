"""embedfleet with one stage that takes a fixed time for each chunk, and a store that keeps nothing.

`python -m slow_stages ARGUMENTS` is the command `embedfleet`. The environment says which stage is slow
(`SLOW_STAGE`) and how many seconds it takes for a chunk (`SLOW_SECONDS`); its worker processes read it too.
The other stages are as fast as they are: the model is to be `stub`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import numpy as np
from numpy.typing import NDArray

from embedfleet import cli, worker_process
from embedfleet.bootstrap import adapters, owner
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.backends.stub import StubBackend
from embedfleet.queue_schemas import Stage
from embedfleet.settings import Settings
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey, VectorRows, VectorStore
from embedfleet.workers.cutting import DocumentCut, PartToQueue

STAGES = (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)


class SlowStore(NullVectorStore):
    """Takes its time for each row."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await asyncio.sleep(self._seconds * len(rows.ids))


def make_slow(stage: Stage, seconds: float) -> VectorStore:
    """Make a stage slow in this process, and return the vector store to use."""
    if stage is Stage.CHUNKING:
        _slow_cutting(seconds)
    if stage is Stage.EMBEDDING:
        _slow_model(seconds)
    return SlowStore(seconds if stage is Stage.STORAGE else 0.0)


def _slow_cutting(seconds: float) -> None:
    cut = DocumentCut.next_part

    def slowly(self: DocumentCut, most_chunks: int) -> PartToQueue:
        made = cut(self, most_chunks)
        time.sleep(seconds * sum(batch.batch.chunks for batch in made.part.batches))
        return made

    DocumentCut.next_part = slowly  # type: ignore[method-assign]


def _slow_model(seconds: float) -> None:
    embed = StubBackend.embed_tokens

    def slowly(self: StubBackend, batch: TokenBatch) -> NDArray[np.float32]:
        time.sleep(seconds * len(batch.lengths))
        return embed(self, batch)

    StubBackend.embed_tokens = slowly  # type: ignore[method-assign]


def _command() -> None:
    store = make_slow(Stage(os.environ["SLOW_STAGE"]), float(os.environ["SLOW_SECONDS"]))

    async def open_store(settings: Settings) -> VectorStore:
        return store

    adapters.open_store = open_store
    if len(sys.argv) == 1:  # as orchestrators start them
        sys.exit(worker_process.main())
    owner.WORKER_COMMAND = (sys.executable, "-m", "slow_stages")
    cli.main()


if __name__ == "__main__":
    _command()
