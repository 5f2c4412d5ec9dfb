"""Embeds texts by the embedding workers of a fleet, through the broker.

A request becomes tasks of the broker's interactive lane. The workers leave their answers in the mailbox of
this process, and one loop takes them out for all callers. What a worker of a dead process had in hand is
delivered to another one when its lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from embedfleet.clock import Clock
from embedfleet.errors import ModelUnavailable, Remedy, Transient, UndecodableMessage
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.interactive.embedder import Embedded, KnownModels
from embedfleet.interactive.messages import EmbeddingAnswer, EmbeddingRequest
from embedfleet.queue.broker import Broker, Lane, Task
from embedfleet.queue_schemas import Stage
from embedfleet.waiting import cancel_and_wait

# A task is about one call of a model, so that other tenants have their turn in between, and several workers
# share a large request.
_TASK_TOKENS = 8_192
_TASK_TEXTS = 256
# How long one wait for answers is. It ends sooner when one comes.
_LOOK_SECONDS = 5.0
# The pause after the broker was away, before it is asked again.
_PAUSE_SECONDS = 0.2
_TRY_AGAIN_SECONDS = 5.0


class QueuedTextEmbedder:
    """A `TextEmbedder` over the embedding workers of a fleet. This process loads no model."""

    def __init__(self, catalogue: Catalogue, broker: Broker, clock: Clock) -> None:
        self._known = KnownModels(catalogue)
        self._broker = broker
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._listening: asyncio.Task[None] | None = None
        self._withdrawing: set[asyncio.Task[None]] = set()

    @property
    def loaded_models(self) -> list[str]:
        return []

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
        vectors = np.zeros((len(batch), info.dim), dtype=np.float32)
        if not len(batch):
            return Embedded(vectors, {}, 0.0, 0.0)
        request_id = uuid4().hex
        waiting = self._waiting[request_id] = _Waiting(vectors, asyncio.get_running_loop().create_future())
        wanted_until = None if timeout_seconds is None else self._clock.now() + timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                tasks = list(self._tasks(request_id, info, batch, tenant, wanted_until))
                await self._broker.enqueue(Stage.EMBEDDING, tasks)
                self._listen()
                return await waiting.done
        except TimeoutError as exc:
            raise ModelUnavailable(
                f"no embedding worker gave vectors of model `{info.name}` in {timeout_seconds:g} s: look "
                "whether workers run, and what they do",
                retry_after_seconds=_TRY_AGAIN_SECONDS,
                remedy=Remedy.EXAMINE,
            ) from exc
        finally:
            del self._waiting[request_id]
            if waiting.left:
                self._withdraw(request_id)

    async def close(self) -> None:
        """Fail the callers that wait. The broker stays open."""
        self._fail_all(Transient("the process is being closed: try again"))
        if self._listening is not None:
            await cancel_and_wait(self._listening)
        await asyncio.gather(*self._withdrawing)

    def _tasks(
        self, request_id: str, info: ModelInfo, batch: TokenBatch, tenant: str, wanted_until: float | None
    ) -> Iterator[Task]:
        for first, past in _parts(batch.lengths):
            part = batch.take(np.arange(first, past))
            message = EmbeddingRequest(
                tenant=tenant,
                job_id=request_id,
                mailbox=self._broker.mailbox,
                first=first,
                model=info.name,
                space=info.space,
                role=batch.role,
                lengths=part.lengths.astype("<u4").tobytes(),
                token_ids=part.token_ids.astype("<u4", copy=False).tobytes(),
                texts=part.texts if info.needs_texts else None,
                wanted_until=wanted_until,
            )
            yield Task(
                id=f"{request_id}/{first}",
                tenant=tenant,
                job_id=request_id,
                cost=max(1, int(part.lengths.sum())),
                payload=message.encode(),
                lane=Lane.INTERACTIVE,
            )

    def _listen(self) -> None:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._take_answers(), name="take answers")

    async def _take_answers(self) -> None:
        """Give the answers to the callers, as long as one waits."""
        # There is no await between the last look and the end: a caller that comes later begins another loop.
        while self._waiting:
            try:
                packed = await self._broker.take_answers(Stage.EMBEDDING, timeout_seconds=_LOOK_SECONDS)
            except Transient as exc:
                # Answers may be lost with the connection. So the callers hear of it now, and try again.
                self._fail_all(exc)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            for one in packed:
                self._deliver(one)

    def _deliver(self, packed: bytes) -> None:
        try:
            answer = EmbeddingAnswer.decode(packed)
        except UndecodableMessage as exc:
            logger.warning("an answer of an embedding worker is dropped: {}", exc)
            return
        # None: the caller has given up.
        if (waiting := self._waiting.get(answer.request_id)) is not None:
            waiting.add(answer)

    def _fail_all(self, failure: Transient) -> None:
        for waiting in self._waiting.values():
            waiting.fail(failure)

    def _withdraw(self, request_id: str) -> None:
        """Drop the tasks of a caller that has given up, without holding it up."""

        async def drop() -> None:
            with suppress(Transient):  # a worker drops them later, as they are not wanted any more
                await self._broker.cancel_job(request_id)

        withdrawing = asyncio.create_task(drop(), name="withdraw an embedding request")
        self._withdrawing.add(withdrawing)
        withdrawing.add_done_callback(self._withdrawing.discard)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A caller. `left` is the number of texts without an answer."""

    vectors: NDArray[np.float32]
    done: asyncio.Future[Embedded]
    failed: dict[int, str] = field(default_factory=dict)
    asked_at: float = field(default_factory=perf_counter)
    inference_seconds: float = 0.0
    answered: set[int] = field(default_factory=set)
    left: int = 0

    def __post_init__(self) -> None:
        self.left = len(self.vectors)

    def fail(self, failure: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(failure)

    def add(self, answer: EmbeddingAnswer) -> None:
        # A task that was delivered twice is answered twice.
        if self.done.done() or answer.first in self.answered:
            return
        if answer.failure is not None:
            self.fail(answer.failure)
            return
        self.answered.add(answer.first)
        self.vectors[answer.first : answer.first + answer.count] = answer.vectors_array()
        self.failed.update({answer.first + at: reason for at, reason in answer.failed.items()})
        # The parts of a request are embedded side by side.
        self.inference_seconds = max(self.inference_seconds, answer.inference_seconds)
        self.left -= answer.count
        if not self.left:
            queue_seconds = max(0.0, perf_counter() - self.asked_at - self.inference_seconds)
            self.done.set_result(Embedded(self.vectors, self.failed, queue_seconds, self.inference_seconds))


def _parts(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the texts [first, past) of each task: within the limits, but at least one text."""
    first = tokens = 0
    for at, length in enumerate(lengths.tolist()):
        if at > first and (tokens + length > _TASK_TOKENS or at - first == _TASK_TEXTS):
            yield first, at
            first, tokens = at, 0
        tokens += length
    yield first, len(lengths)
