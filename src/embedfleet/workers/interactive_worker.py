"""Answers the embedding requests of callers that wait at an API process.

It claims from the interactive lane alone, so that no request waits for documents that were claimed before.
The model takes a micro-batch of documents between two calls for requests, so that documents go on as well.
Nothing of a request is in SQL: its caller asks again if it is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from embedfleet.errors import (
    EmbedfleetError,
    ModelFailure,
    ModelUnavailable,
    Transient,
    UndecodableMessage,
)
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.interactive.messages import EmbeddingAnswer, EmbeddingRequest
from embedfleet.queue.broker import Lane, Lease
from embedfleet.queue_schemas import Stage
from embedfleet.settings import DEFAULT_BATCH_TOKENS
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded
from embedfleet.workers.services import Services

# A caller waits for about half a minute. So the tasks of a worker that died go to another one before that.
_LEASE_SECONDS = 10.0
# The most requests of one claim. More wait for the next claim, which the other loop makes.
_TASKS_PER_CLAIM = 128
# Clocks of two hosts may differ by this much. A request that is older was given up by its caller.
_CLOCKS_DIFFER_SECONDS = 60.0
# A caller that is there takes its answer at once.
_KEEP_SECONDS = 60.0


class InteractiveLoop(StageLoop):
    """Embeds the texts of `EmbeddingRequest`s, and leaves the vectors in the mailboxes of the callers."""

    stage = Stage.EMBEDDING
    lane: ClassVar[Lane | None] = Lane.INTERACTIVE

    def __init__(self, name: str, services: Services, *, embedder: LocalTextEmbedder) -> None:
        pool = services.pools.embedding
        lease_seconds = min(pool.lease_seconds, _LEASE_SECONDS)
        super().__init__(name, services, pool=pool.model_copy(update={"lease_seconds": lease_seconds}))
        self._embedder = embedder

    def tasks_per_claim(self) -> int:
        return _TASKS_PER_CLAIM

    def tokens_per_claim(self) -> int:
        return DEFAULT_BATCH_TOKENS

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, undecodable = decoded(leases, EmbeddingRequest)
        failures = dict(undecodable)
        waiting = {
            asyncio.create_task(self._answer_to(message)): (lease, message) for lease, message in messages
        }
        try:
            while waiting:
                # Requests of one call of the model end together, and are answered together.
                ended, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                answers: dict[str, list[bytes]] = {}
                answered: list[Lease] = []
                for one in ended:
                    lease, message = waiting.pop(one)
                    if (failure := one.exception()) is not None:
                        assert isinstance(failure, Exception)
                        failures[lease.task.id] = failure
                        continue
                    answered.append(lease)
                    if (answer := one.result()) is not None:
                        answers.setdefault(message.mailbox, []).append(answer.encode())
                await self._send(answers)
                await done(answered)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return failures

    async def give_up(self, lease: Lease, reason: str) -> None:
        """Tell the caller that its texts cannot be embedded."""
        try:
            message = EmbeddingRequest.decode(lease.task.payload)
        except UndecodableMessage:
            return
        answer = EmbeddingAnswer.of_failure(message, ModelFailure(reason))
        await self._send({message.mailbox: [answer.encode()]})

    async def _answer_to(self, message: EmbeddingRequest) -> EmbeddingAnswer | None:
        """Return the answer; None if no caller waits for it. Raises what another worker may do better."""
        wanted_until = message.wanted_until
        if wanted_until is not None and self._clock.now() > wanted_until + _CLOCKS_DIFFER_SECONDS:
            return None
        try:
            # If the model here has another space, the embedder refuses it.
            info = replace(await self._embedder.info(message.model), space=message.space)
            embedded = await self._embedder.embed(info, message.batch(), tenant=message.tenant)
        except ModelUnavailable as exc:
            return EmbeddingAnswer.of_failure(message, exc)
        except (Transient, ModelFailure):
            raise
        except EmbedfleetError as exc:
            return EmbeddingAnswer.of_failure(message, exc)
        return EmbeddingAnswer(
            request_id=message.job_id,
            first=message.first,
            count=len(embedded.vectors),
            vectors=embedded.vectors.astype("<f4", copy=False).tobytes(),
            failed=dict(embedded.failed),
            inference_seconds=embedded.inference_seconds,
        )

    async def _send(self, answers: Mapping[str, Sequence[bytes]]) -> None:
        for mailbox, some in answers.items():
            await self._broker.answer(self.stage, mailbox, some, keep_seconds=_KEEP_SECONDS)
