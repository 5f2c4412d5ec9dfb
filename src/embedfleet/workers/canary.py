"""A canary for models: a model whose vectors of known texts change is stopped before it writes wrong ones.

A wrong vector looks like any other. A broken device, a driver or library that computes differently, or a
server that changed its model makes search worse, and no error says so. So each loaded model embeds a few
known texts before its first batch, and again every `models.canary_every_batches` batches. It compares them
with the vectors that the first process with this space recorded in SQL.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

from embedfleet.errors import ModelUnavailable
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import ModelRunner
from embedfleet.records import canaries
from embedfleet.settings import ModelsSettings
from embedfleet.sql.database import Database
from embedfleet.tokenising import cut, tokenised
from embedfleet.vectors.checksums import cosines

# Never change them: the recorded vectors were made of these. Prose, code, other scripts, and a longer text.
TEXTS = (
    "The ship left the harbour at dawn, and nobody saw it again.",
    "def area(width: float, height: float) -> float:\n    return width * height",
    "Wie spät ist es in 東京, wenn es in São Paulo 18:30 Uhr ist?",
    "Water boils at a lower temperature on a mountain than at the sea. " * 6,
)


@dataclass(slots=True)
class _WatchedModel:
    """A loaded model. `batches`: since its last check, None before the first. `lock`: held by a check."""

    batches: int | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Canary:
    """The checks of one process, shared by its embedding loops."""

    def __init__(self, database: Database, models: ModelPool, settings: ModelsSettings) -> None:
        self._database = database
        self._models = models
        self._every_batches = settings.canary_every_batches
        self._least_cosine = settings.canary_least_cosine
        self._watched: WeakKeyDictionary[ModelRunner, _WatchedModel] = WeakKeyDictionary()

    async def check_if_due(self, runner: ModelRunner) -> None:
        """Count one batch, and check the model first if it is due.

        A model that fails is put in quarantine; then and later raises ModelUnavailable. Other claims of the
        same model wait for the result, so that none is embedded by a model that fails. Claims of other models
        do not wait.
        """
        if not self._every_batches:
            return
        watched = self._watched.setdefault(runner, _WatchedModel())
        async with watched.lock:
            if watched.batches is None or watched.batches >= self._every_batches:
                await self._check(runner)
                watched.batches = 0
            watched.batches += 1

    async def _check(self, runner: ModelRunner) -> None:
        info = runner.info
        batch = await asyncio.to_thread(tokenised, TEXTS, info)
        outcome = await runner.embed(cut(batch, info))
        if outcome.failed:
            await self._quarantine(info, f"it fails on a known text ({next(iter(outcome.failed.values()))})")
        vectors = outcome.vectors
        recorded = await self._database.write(
            partial(canaries.record_first, space=info.space, vectors=vectors)
        )
        least = float(cosines(vectors, recorded).min())  # same space, so same dimension
        if not least >= self._least_cosine:  # written so that a NaN fails, too
            await self._quarantine(
                info,
                f"known texts have a cosine of {least:.4f} to what they were at first (least allowed "
                f"{self._least_cosine}): another model behind the same name needs another `revision`",
            )
        self._models.trusted(info.name)

    async def _quarantine(self, info: ModelInfo, reason: str) -> None:
        await self._models.quarantine(info.name, reason)
        raise ModelUnavailable(f"model {info.name} is in quarantine: {reason}")
