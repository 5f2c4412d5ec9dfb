"""Known texts ride along: a model that makes something else of them than it did at first stops writing.

A wrong vector looks like any other. A broken device, a driver or a library that calculates otherwise, a
server that changed its model: search gets worse, and nobody is told. So each loaded model embeds a few texts
before its first batch and again every so many, and compares with what was recorded, for its space and in
SQL, by whoever was first.
"""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.errors import ModelUnavailable
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import ModelRunner
from embedfleet.settings import ModelsSettings
from embedfleet.storage import canaries
from embedfleet.storage.database import Database

# Never change them: what was recorded was made of these. Prose, code, another script, and one of some length.
TEXTS = (
    "The ship left the harbour at dawn, and nobody saw it again.",
    "def area(width: float, height: float) -> float:\n    return width * height",
    "Wie spät ist es in 東京, wenn es in São Paulo 18:30 Uhr ist?",
    "Water boils at a lower temperature on a mountain than at the sea. " * 6,
)


class Canary:
    """Of one process, shared by its embedding workers."""

    def __init__(self, database: Database, models: ModelPool, settings: ModelsSettings) -> None:
        self._database = database
        self._models = models
        self._every = settings.canary_every_batches
        self._least_cosine = settings.canary_least_cosine
        self._checked: WeakKeyDictionary[ModelRunner, int] = WeakKeyDictionary()  # batches since then
        self._checking = asyncio.Lock()  # a second claim waits for the verdict, too

    async def check_if_due(self, runner: ModelRunner) -> None:
        """Count one batch. Raises ModelUnavailable, with the model in quarantine, if it fails the check."""
        if not self._every:
            return
        async with self._checking:
            batches = self._checked.get(runner, self._every)
            if batches >= self._every:
                await self._check(runner)
                batches = 0
            self._checked[runner] = batches + 1

    async def _check(self, runner: ModelRunner) -> None:
        info = runner.info
        outcome = await runner.embed(await asyncio.to_thread(_batch, info))
        if outcome.failed:
            await self._quarantine(info, f"it fails on a known text ({next(iter(outcome.failed.values()))})")
        vectors = outcome.vectors
        recorded = await self._database.write(partial(canaries.first, space=info.space, vectors=vectors))
        least = float(cosines(vectors, recorded).min())
        if not least >= self._least_cosine:
            await self._quarantine(
                info,
                f"known texts have a cosine of {least:.4f} to what they were at first (least allowed "
                f"{self._least_cosine}): another model behind the same name needs another `revision`",
            )
        self._models.trusted(info.name)

    async def _quarantine(self, info: ModelInfo, reason: str) -> None:
        await self._models.quarantine(info.name, reason)
        raise ModelUnavailable(f"model {info.name} is in quarantine: {reason}")


def cosines(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row of `some`, float32 (n, dim), to the same row of `others`; -1 if their dimensions differ."""
    if some.shape != others.shape:
        return np.full(len(some), -1, dtype=np.float32)
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    products: NDArray[np.float32] = np.einsum("nd,nd->n", some, others)
    cosine: NDArray[np.float32] = products / np.maximum(lengths, np.finfo(np.float32).tiny)
    return cosine


def _batch(info: ModelInfo) -> TokenBatch:
    """The known texts as far as the model reads them. Blocking."""
    token_ids, lengths = load_tokenizer(info.tokenizer_file).encode_batch(list(TEXTS))
    parts = np.split(token_ids, np.cumsum(lengths)[:-1])
    cut = [part[: info.max_tokens] for part in parts]
    return TokenBatch(
        np.concatenate(cut), np.array([len(part) for part in cut]), TEXTS if info.needs_texts else None
    )
