"""The canary stops a model whose vectors of known texts have changed, before it stores wrong vectors.

A wrong vector looks like any other. A broken device, a driver that computes differently, or a server with
another model behind the same name makes search worse, and no error reports it. So each loaded model embeds a
few known texts before its first batch, and again every `models.canary_every_batches` batches. The canary
compares the result with the vectors that the first process with this space recorded in SQL.
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

# Never change these texts: the recorded vectors were made from them. They are prose, code, and other scripts.
TEXTS = (
    "The ship left the harbour at dawn, and nobody saw it again.",
    "def area(width: float, height: float) -> float:\n    return width * height",
    "Wie spät ist es in 東京, wenn es in São Paulo 18:30 Uhr ist?",
    "Water boils at a lower temperature on a mountain than at the sea. " * 6,
)


@dataclass(slots=True)
class _WatchedModel:
    """A loaded model. `batches` counts batches since its last check; it is None before the first check.

    A check holds `lock`.
    """

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
        """Check the model if a check is due, then count one batch.

        A model that fails is put in quarantine. This call raises ModelUnavailable then, and so does every
        later use of the model. Other claims for the same model wait for the result of the check, so that a
        failing model embeds none of them. Claims for other models do not wait.
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
        least = float(cosines(vectors, recorded).min())  # both are of one space, so the dimensions are equal
        if not least >= self._least_cosine:  # not `<`: a NaN must fail the check too
            await self._quarantine(
                info,
                f"known texts have a cosine of {least:.4f} to what they were at first (least allowed "
                f"{self._least_cosine}): another model behind the same name needs another `revision`",
            )
        self._models.trusted(info.name)

    async def _quarantine(self, info: ModelInfo, reason: str) -> None:
        await self._models.quarantine(info.name, reason)
        raise ModelUnavailable(f"model {info.name} is in quarantine: {reason}")
