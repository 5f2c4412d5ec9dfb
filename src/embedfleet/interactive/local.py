"""Embeds texts with the models of this process.

Callers that wait at the same time share the calls of the model: while it works, texts gather for its next
call. A call is also what documents wait for, since the model takes a micro-batch of theirs in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelUnavailable, SpaceMismatch, Transient
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import EmbedOutcome, ModelRunner
from embedfleet.interactive.embedder import Embedded, KnownModels
from embedfleet.interactive.turns import Portion, Turns
from embedfleet.waiting import cancel_and_wait

_TRY_AGAIN_SECONDS = 5.0  # a model is usually loaded, or a burst over, after some seconds


class LocalTextEmbedder:
    """A `TextEmbedder` over the models of this process, which are loaded when they are first needed."""

    def __init__(self, catalogue: Catalogue, models: ModelPool) -> None:
        self._known = KnownModels(catalogue)
        self._models = models
        self._gatherings: dict[tuple[str, str, str], _Gathering] = {}
        self._closed = False

    @property
    def loaded_models(self) -> list[str]:
        return self._models.loaded()

    @property
    def known_models(self) -> list[str]:
        return self._known.names()

    def require_known(self, model: str) -> None:
        self._known.require_known(model)

    async def info(self, model: str) -> ModelInfo:
        return await self._known.info(model)

    async def embed(
        self, info: ModelInfo, batch: TokenBatch, *, tenant: str, timeout_seconds: float | None = None
    ) -> Embedded:
        if self._closed:
            raise _closing()
        if not len(batch):
            return Embedded(np.zeros((0, info.dim), dtype=np.float32), {}, 0.0, 0.0)
        key = (info.name, info.space, batch.role)
        if key not in self._gatherings:
            self._gatherings[key] = _Gathering(self._models, info)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._gatherings[key].embed(batch, tenant)
        except TimeoutError as exc:
            raise ModelUnavailable(
                f"model `{info.name}` gave no vectors in {timeout_seconds:g} s: it is being loaded, or has "
                "too much to do",
                retry_after_seconds=_TRY_AGAIN_SECONDS,
            ) from exc

    async def close(self) -> None:
        """Fail the callers that wait. The models stay as they are."""
        self._closed = True
        for gathering in self._gatherings.values():
            await gathering.close()


@dataclass(slots=True, eq=False)
class _Caller:
    batch: TokenBatch
    vectors: NDArray[np.float32]
    done: asyncio.Future[Embedded]
    ends: NDArray[np.int64]
    """int64 (n,): where the tokens of each text end."""
    left: int
    asked_at: float = field(default_factory=perf_counter)
    began_at: float = 0.0
    inference_seconds: float = 0.0
    failed: dict[int, str] = field(default_factory=dict)

    def is_waiting(self) -> bool:
        return not self.done.done()

    def fail(self, failure: Exception) -> None:
        if self.is_waiting():
            self.done.set_exception(failure)

    def add(self, portion: Portion[_Caller], outcome: EmbedOutcome, row: int) -> None:
        """Add the vectors of a portion, which begin at this row of the outcome."""
        end = row + portion.past - portion.first
        self.vectors[portion.first : portion.past] = outcome.vectors[row:end]
        for at, reason in outcome.failed.items():
            if row <= at < end:
                self.failed[portion.first + at - row] = reason
        self.left -= end - row

    def finish_if_complete(self) -> None:
        if not self.left and self.is_waiting():
            queue_seconds = self.began_at - self.asked_at
            self.done.set_result(Embedded(self.vectors, self.failed, queue_seconds, self.inference_seconds))


class _Gathering:
    """The callers that wait for one model and role, and the calls that take their texts."""

    def __init__(self, models: ModelPool, info: ModelInfo) -> None:
        self._models = models
        self._info = info
        self._turns: Turns[_Caller] = Turns()
        self._calling: set[asyncio.Task[None]] = set()
        self._calls_at_once = 1  # as many as the replicas take; known once the model is loaded

    async def embed(self, batch: TokenBatch, tenant: str) -> Embedded:
        done: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        vectors = np.zeros((len(batch), self._info.dim), dtype=np.float32)
        caller = _Caller(batch, vectors, done, np.cumsum(batch.lengths), len(batch))
        self._turns.add(tenant, caller, batch.lengths.tolist())
        self._calling = {calling for calling in self._calling if not calling.done()}
        if len(self._calling) < self._calls_at_once:
            self._calling.add(asyncio.create_task(self._call_model(), name=f"embed with {self._info.name}"))
        # If the caller is cancelled, so is the future: then its texts are not wanted any more.
        return await done

    async def close(self) -> None:
        await cancel_and_wait(*self._calling)
        for caller in self._turns.take_all():
            caller.fail(_closing())

    async def _call_model(self) -> None:
        """Call the model until no text waits."""
        # There is no await between the last look and the end: a caller that comes later begins another loop.
        while self._turns:
            try:
                async with self._models.using(self._info.name) as runner:
                    self._require_same(runner)
                    self._calls_at_once = runner.calls_at_once
                    good = True
                    while good and (
                        portions := self._turns.take(runner.microbatch_tokens, _Caller.is_waiting)
                    ):
                        # After a failure the pool is asked again, as the runner may be broken.
                        good = await self._call(runner, portions)
            except Exception as exc:  # noqa: BLE001 - whatever it is, every caller that waits must hear of it
                for caller in self._turns.take_all():
                    caller.fail(exc)

    def _require_same(self, runner: ModelRunner) -> None:
        if runner.info.space != self._info.space:
            raise SpaceMismatch(
                f"model `{self._info.name}` has space {runner.info.space}, the texts were made for "
                f"{self._info.space}"
            )

    async def _call(self, runner: ModelRunner, portions: Sequence[Portion[_Caller]]) -> bool:
        """Call the model once. Return whether it succeeded; if not, the callers have the failure."""
        started = perf_counter()
        for portion in portions:
            portion.caller.began_at = portion.caller.began_at or started
        try:
            outcome = await runner.embed(_joined(portions), interactive=True)
        except asyncio.CancelledError:
            _fail(portions, _closing())
            raise
        except Exception as exc:  # noqa: BLE001 - the failure of a call is that of its callers
            _fail(portions, exc)
            return False
        row = 0
        for portion in portions:
            portion.caller.add(portion, outcome, row)
            row += portion.past - portion.first
        for caller in {portion.caller for portion in portions}:
            caller.inference_seconds += perf_counter() - started
            caller.finish_if_complete()
        return True


def _closing() -> Transient:
    return Transient("the models are being closed: try again")


def _fail(portions: Sequence[Portion[_Caller]], failure: Exception) -> None:
    for portion in portions:
        portion.caller.fail(failure)


def _joined(portions: Sequence[Portion[_Caller]]) -> TokenBatch:
    """Join the texts of a call. All have the same role, and either all have strings or none has."""
    ids: list[NDArray[np.uint32]] = []
    lengths: list[NDArray[np.int64]] = []
    texts: list[str] = []
    for portion in portions:
        batch, ends = portion.caller.batch, portion.caller.ends
        start = int(ends[portion.first - 1]) if portion.first else 0
        ids.append(batch.token_ids[start : int(ends[portion.past - 1])])
        lengths.append(batch.lengths[portion.first : portion.past])
        texts += [] if batch.texts is None else batch.texts[portion.first : portion.past]
    first = portions[0].caller.batch
    return TokenBatch(
        np.concatenate(ids),
        np.concatenate(lengths),
        None if first.texts is None else tuple(texts),
        first.role,
    )
