"""The embedding worker turns batches of token ids into vectors.

The chunks of all claimed tasks, of any tenant, go to the model together; the runner groups them by length.
Chunks whose vector is in the store already are left out, and the cache is asked before the model.

A batch whose worker died with it `max_attempts` times is divided into parts, and a part that fails is divided
again. Each part is tried alone. So the chunk that kills the model is found and given up, and its neighbours
are embedded.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import EmbedfleetError, SpaceMismatch, Transient, UndecodableMessage
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import EmbedOutcome, ModelRunner
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.completion import give_up_batch
from embedfleet.queue.broker import Lane, Lease, Task
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import (
    DeadChunk,
    EmbeddingTask,
    Stage,
    StorageTask,
    pack_chunk_ids,
)
from embedfleet.records import batches, embedding_cache, jobs
from embedfleet.records.embedding_cache import CacheUse
from embedfleet.settings import DEFAULT_BATCH_TOKENS
from embedfleet.sql import document_lock
from embedfleet.waiting import cancel_and_wait
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded
from embedfleet.workers.canary import Canary
from embedfleet.workers.claim_progress import ClaimProgress
from embedfleet.workers.embedding_parts import parts_of
from embedfleet.workers.embedding_work import EmbeddingWork, open_work, prepare
from embedfleet.workers.services import Services

# A worker has two claims in hand: while the model works on one, the other is fetched or handed on. Four calls
# of the model last long enough for that.
_CALLS_PER_CLAIM = 4


def tokens_per_claim(call_tokens: int) -> int:
    """Return how many tokens to claim at once for a model that takes `call_tokens` in one call.

    The claim must be large enough that the device has work until the next claim is prepared.
    """
    return max(DEFAULT_BATCH_TOKENS, _CALLS_PER_CLAIM * call_tokens)


class EmbeddingLoop(StageLoop):
    """Turns `EmbeddingTask`s into `StorageTask`s. They are in the bulk lane."""

    stage = Stage.EMBEDDING
    lane: ClassVar[Lane | None] = Lane.BULK

    def __init__(
        self, name: str, services: Services, *, models: ModelPool, canary: Canary, caching: bool
    ) -> None:
        super().__init__(name, services)
        self._models = models
        self._canary = canary
        self._caching = caching
        self._storage_pool = services.pools.storage

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, failures = decoded(leases, EmbeddingTask)
        by_model: dict[tuple[str, str], list[tuple[Lease, EmbeddingTask]]] = {}
        for lease, message in messages:
            by_model.setdefault((message.model, message.space), []).append((lease, message))
        groups = await asyncio.gather(
            *(self._embed_group(model, space, some, done) for (model, space), some in by_model.items())
        )
        return dict(failures) | {task_id: failure for group in groups for task_id, failure in group.items()}

    async def give_up(self, lease: Lease, reason: str) -> None:
        await give_up_batch(self._database, lease, reason, self._clock.now())

    async def divide(self, lease: Lease, reason: str) -> bool:
        try:
            message = EmbeddingTask.decode(lease.task.payload)
        except UndecodableMessage:
            return False
        if len(message.chunk_id_list()) == 1:
            return False
        work = await self._database.read(lambda conn: open_work(conn, [(lease, message)]))
        parts = [part for item in work for part in parts_of(item)]
        if work and not parts:  # every chunk is stored or given up, so there is nothing to try
            return False
        await offer(self._broker, Stage.EMBEDDING, parts)
        return True

    def max_attempts(self, lease: Lease) -> int:
        """Return 1 for a part of several chunks, which is divided again at once: its task killed a worker."""
        span = BatchId.parse(lease.task.id).span
        is_part_of_several = span is not None and span[1] - span[0] > 1
        return 1 if is_part_of_several else super().max_attempts(lease)

    def must_run_alone(self, lease: Lease) -> bool:
        """Whether the task runs alone. A part does so from its first delivery on."""
        is_part = BatchId.parse(lease.task.id).span is not None
        is_allowed = lease.attempt <= self.max_attempts(lease)
        return super().must_run_alone(lease) or (is_part and is_allowed)

    def tokens_per_claim(self) -> int:
        return self._pool.batch_tokens or tokens_per_claim(self._models.largest_call_tokens())

    async def has_room(self) -> bool:
        depth = await self._broker.depth(Stage.STORAGE)
        return not self._storage_pool.is_full(ready_tasks=depth.ready, ready_tokens=depth.ready_cost)

    async def _embed_group(
        self, model: str, space: str, messages: Sequence[tuple[Lease, EmbeddingTask]], done: Done
    ) -> dict[str, Exception]:
        """Embed the tasks of one model, and return the failures. A task that was handed on has none."""
        left = {lease.task.id for lease, _ in messages}

        async def handed_on(some: Sequence[Lease]) -> None:
            left.difference_update(lease.task.id for lease in some)
            await done(some)

        try:
            async with self._models.using(model) as runner:
                if runner.info.space != space:
                    raise SpaceMismatch(
                        f"model `{model}` has space {runner.info.space}, the batch was made for {space}"
                    )
                await self._canary.check_if_due(runner)
                needs_texts = runner.info.needs_texts

                def look(conn: Connection) -> tuple[Sequence[EmbeddingWork], TokenBatch] | None:
                    if not (opened := open_work(conn, messages)):
                        return None
                    return prepare(conn, opened, needs_texts=needs_texts, caching=self._caching)

                # One look for all that SQL knows of the claim: each look costs a transaction and a thread.
                if (found := await self._database.read(look)) is not None:
                    await self._embed(runner, *found, handed_on)
        except Exception as exc:  # noqa: BLE001 - a failure of one model must not reach the tasks of another
            return dict.fromkeys(await self._still_wanted(messages, left), exc)
        return {}

    async def _still_wanted(
        self, messages: Sequence[tuple[Lease, EmbeddingTask]], left: Collection[str]
    ) -> Collection[str]:
        """Return which of the tasks that are `left` have work. The failure of a model concerns no others."""
        try:
            work = await self._database.read(lambda conn: open_work(conn, messages))
        except EmbedfleetError:  # then all of them are tried again
            return left
        return {item.lease.task.id for item in work}.intersection(left)

    async def _embed(
        self, runner: ModelRunner, work: Sequence[EmbeddingWork], batch: TokenBatch, handed_on: Done
    ) -> None:
        """Embed the tasks, and hand each on as soon as it is complete, so that small tasks need not wait."""
        progress = ClaimProgress([item.known for item in work], runner.info.dim)
        missing = batch.take(progress.missing)
        tokens = np.bincount(progress.owners, weights=missing.lengths, minlength=len(work)).astype(np.int64)
        embedding = asyncio.create_task(
            runner.embed(missing, owners=progress.owners, on_part=progress.add_outcome)
        )
        embedding.add_done_callback(lambda _: progress.changed.set())
        try:
            while True:
                await progress.changed.wait()
                progress.changed.clear()
                # Ask whether the model is done before the look for completed tasks. In the other order, tasks
                # that are completed between the two would be missed.
                model_is_done = embedding.done()
                if completed := progress.take_completed():
                    await self._hand_on([(work[n], progress.outcome(n)) for n in completed], handed_on)
                    self._count(
                        [work[n] for n in completed], progress.missing_of_task[completed], tokens[completed]
                    )
                if model_is_done:
                    await embedding  # raises what the model raised
                    return
        except Transient:
            await self._keep_partial(work, progress)
            raise
        finally:
            await cancel_and_wait(embedding)

    async def _hand_on(
        self, completed: Sequence[tuple[EmbeddingWork, EmbedOutcome]], handed_on: Done
    ) -> None:
        """Hand on completed tasks: to the storage queue, to SQL, then ack them."""
        await offer(
            self._broker, Stage.STORAGE, [_storage_task(item, outcome) for item, outcome in completed]
        )
        await self._record(completed, finished=True)
        await handed_on([item.lease for item, _ in completed])

    async def _keep_partial(self, work: Sequence[EmbeddingWork], progress: ClaimProgress) -> None:
        """Cache the vectors of incomplete tasks, as a model server may have charged for them."""
        if self._caching and (partial := progress.take_partial()):
            outcomes = [(work[number], progress.outcome(number)) for number in partial]
            await self._record(outcomes, finished=False)

    async def _record(
        self, outcomes: Sequence[tuple[EmbeddingWork, EmbedOutcome]], *, finished: bool
    ) -> None:
        uses = [
            (item, None if item.cached is None else item.cached.use(outcome)) for item, outcome in outcomes
        ]
        now = self._clock.now()
        await self._database.write(lambda conn: _record(conn, uses, now, finished=finished))

    def _count(
        self, completed: Sequence[EmbeddingWork], embedded: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> None:
        """Add completed tasks to the metrics. The arrays count the chunks and tokens that the model took."""
        chunks_embedded = int(embedded.sum())
        self._metrics.batch_chunks.labels(self.stage.value).observe(chunks_embedded)
        self._metrics.chunks_embedded_total.inc(chunks_embedded)
        self._metrics.tokens_embedded_total.inc(int(tokens.sum()))
        self._metrics.chunks_reused_total.inc(sum(item.reused for item in completed))
        for item in completed:
            chunk_tokens = self._metrics.chunk_tokens.labels(item.message.model)
            for length in item.message.lengths_array().tolist():
                chunk_tokens.observe(length)
        tokens_of: Counter[str] = Counter()
        misses = wanted = 0
        for item, item_chunks, item_tokens in zip(completed, embedded.tolist(), tokens.tolist(), strict=True):
            tokens_of[item.message.tenant] += item_tokens
            if item.cached is not None:
                misses += item_chunks
                wanted += len(item.wanted)
        self._metrics.cache_misses_total.inc(misses)
        self._metrics.cache_hits_total.inc(wanted - misses)
        for tenant, tenant_tokens in tokens_of.items():
            self._metrics.count_tenant(tenant, tokens=tenant_tokens)


def _storage_task(item: EmbeddingWork, outcome: EmbedOutcome) -> Task:
    """Return the task for the next stage. `outcome` has one row for each wanted chunk of the item."""
    offset = item.message.first_position
    dead = dict(item.dead) | {item.wanted[row]: reason for row, reason in outcome.failed.items()}
    good, vectors = item.wanted, outcome.vectors
    if outcome.failed:
        rows = [row for row in range(len(item.wanted)) if row not in outcome.failed]
        good, vectors = [item.wanted[row] for row in rows], vectors[rows]
    message = StorageTask(
        tenant=item.message.tenant,
        job_id=item.message.job_id,
        ordinal=item.message.ordinal,
        span=item.message.span,
        space=item.message.space,
        dim=outcome.vectors.shape[1],
        chunk_ids=pack_chunk_ids([item.chunk_ids[position] for position in good]),
        vectors=vectors.astype("<f4", copy=False).tobytes(),
        cached=item.from_cache,
        dead=tuple(
            DeadChunk(position=offset + position, reason=reason) for position, reason in sorted(dead.items())
        ),
    )
    task = item.lease.task
    return Task(
        id=task.id,
        tenant=task.tenant,
        job_id=task.job_id,
        cost=task.cost,
        payload=message.encode(),
        priority=task.priority,
    )


def _record(
    conn: Connection,
    uses: Sequence[tuple[EmbeddingWork, CacheUse | None]],
    now: float,
    *,
    finished: bool,
) -> None:
    """Put new vectors into the cache. If the tasks are `finished`, mark their batches as embedded."""
    document_lock.lock(conn, {item.document_id for item, _ in uses})
    current = jobs.get_locked(conn, [item.message.job_id for item, _ in uses])
    # Cache the vectors even if the job has ended (storage may be faster than this loop): they were paid for.
    # If a document was deleted, its jobs went in the same unit, so its uses are left out.
    embedding_cache.record_uses(
        conn, [use for item, use in uses if use is not None and item.message.job_id in current], now
    )
    if finished:
        batches.record_embedded(conn, [item.embedded() for item, _ in uses if item.counts_for(current)])
