"""Known texts ride along: a model that makes something else of them than it did at first stops writing.

A wrong vector looks like any other. A broken device, a driver or a library that calculates otherwise, a
server that changed its model: search gets worse, and nobody is told. So each loaded model embeds a few texts
before its first batch and again every so many, and compares with what was recorded, for its space and in
SQL, by whoever was first.
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

# Never change them: what was recorded was made of these. Prose, code, another script, and one of some length.
TEXTS = (
    "The ship left the harbour at dawn, and nobody saw it again.",
    "def area(width: float, height: float) -> float:\n    return width * height",
    "Wie spät ist es in 東京, wenn es in São Paulo 18:30 Uhr ist?",
    "Water boils at a lower temperature on a mountain than at the sea. " * 6,
)


@dataclass(slots=True)
class _Watched:
    """A loaded model: batches since it was looked at, None before the first; `lock` while it is looked at."""

    batches: int | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Canary:
    """Of one process, shared by its embedding workers."""

    def __init__(self, database: Database, models: ModelPool, settings: ModelsSettings) -> None:
        self._database = database
        self._models = models
        self._every = settings.canary_every_batches
        self._least_cosine = settings.canary_least_cosine
        self._watched: WeakKeyDictionary[ModelRunner, _Watched] = WeakKeyDictionary()

    async def check_if_due(self, runner: ModelRunner) -> None:
        """Count one batch. Raises ModelUnavailable, with the model in quarantine, if it fails the check.

        A second claim of the model waits for the verdict; claims of other models do not.
        """
        if not self._every:
            return
        watched = self._watched.setdefault(runner, _Watched())
        async with watched.lock:
            if watched.batches is None or watched.batches >= self._every:
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
        recorded = await self._database.write(partial(canaries.first, space=info.space, vectors=vectors))
        least = float(cosines(vectors, recorded).min())  # of one space, so of one dimension
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
