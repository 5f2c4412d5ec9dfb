"""Embedding: batches of token ids to vectors.

Chunks of all claimed tasks, whatever their tenant, go to the model together; the runner groups them by
length. Chunks whose vector is in the store already are left out, and the cache is asked before the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import SpaceMismatch
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import EmbedOutcome
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue_schemas import (
    DeadChunk,
    EmbeddingTask,
    Stage,
    StorageTask,
    pack_chunk_ids,
)
from embedfleet.storage import chunks, embedding_cache, jobs
from embedfleet.storage.embedding_cache import CacheUse
from embedfleet.storage.tables import BatchState
from embedfleet.workers import cached_embedding
from embedfleet.workers.base_worker import Failures, Worker, decoded, offer
from embedfleet.workers.batch_id import BatchId
from embedfleet.workers.cached_embedding import CacheLookup
from embedfleet.workers.completion import give_up_batch
from embedfleet.workers.services import Services


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed task that has something to do. `wanted`: positions whose vector is not stored yet; `cached`:
    what the cache knows of them, None when it is off."""

    lease: Lease
    message: EmbeddingTask
    chunk_ids: Sequence[str]
    wanted: NDArray[np.int64]
    cached: CacheLookup | None

    def known(self) -> list[NDArray[np.float32] | None]:
        """The vector of each wanted chunk that needs no model."""
        return [None] * len(self.wanted) if self.cached is None else self.cached.vectors()


class EmbeddingWorker(Worker):
    """Turns `EmbeddingTask`s into `StorageTask`s."""

    stage = Stage.EMBEDDING

    def __init__(self, name: str, services: Services, *, models: ModelPool, caching: bool = True) -> None:
        super().__init__(name, services)
        self._models = models
        self._caching = caching
        self._storage_pool = services.pools.storage

    async def has_room(self) -> bool:
        depth = await self._broker.depth(Stage.STORAGE)
        return depth.ready < self._storage_pool.max_queued_tasks

    async def process(self, leases: Sequence[Lease]) -> Failures:
        messages, failures = decoded(leases, EmbeddingTask)
        work = await self._database.read(lambda conn: list(_open_work(conn, messages, caching=self._caching)))
        by_model: dict[tuple[str, str], list[_Work]] = {}
        for item in work:
            by_model.setdefault((item.message.model, item.message.space), []).append(item)
        groups = list(by_model.items())
        outcomes = await asyncio.gather(
            *(self._embed_group(model, space, items) for (model, space), items in groups),
            return_exceptions=True,
        )
        for (_, items), outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, Exception):
                failures.update({item.lease.task.id: outcome for item in items})
            elif isinstance(outcome, BaseException):
                raise outcome
        return failures

    async def give_up(self, lease: Lease, reason: str) -> None:
        status = await give_up_batch(self._database, lease, reason, self._clock.now())
        self.count_ended(status, lease.task.tenant_id)

    async def _embed_group(self, model: str, space: str, work: Sequence[_Work]) -> None:
        runner = await self._models.get(model)
        info = runner.info
        if info.space != space:
            raise SpaceMismatch(f"model `{model}` has space {info.space}, the batch was made for {space}")
        batch = _joined(work)
        known = [vector for item in work for vector in item.known()]
        outcome = await cached_embedding.embed_missing(runner, batch, known)
        tasks = list(_storage_tasks(work, outcome, info.dim))
        await offer(self._broker, Stage.STORAGE, tasks)
        uses = list(cached_embedding.uses(((item.cached, len(item.wanted)) for item in work), outcome))
        now = self._clock.now()
        await self._database.write(lambda conn: _record(conn, work, uses, now))
        self._count(batch.take(cached_embedding.missing(known)), work)

    def _count(self, batch: TokenBatch, work: Sequence[_Work]) -> None:
        self._metrics.batch_chunks.labels(self.stage.value).observe(len(batch))
        self._metrics.chunks_embedded_total.inc(len(batch))
        self._metrics.tokens_embedded_total.inc(int(batch.lengths.sum()))
        self._metrics.chunks_reused_total.inc(sum(_reused(item) for item in work))
        for item in work:
            embedded = cached_embedding.missing(item.known())
            if item.cached is not None:
                self._metrics.cache_misses_total.inc(len(embedded))
                self._metrics.cache_hits_total.inc(len(item.wanted) - len(embedded))
            lengths = item.message.lengths_array()[item.wanted][embedded]
            self._metrics.count_tenant(item.message.tenant_id, tokens=int(lengths.sum(dtype=np.int64)))


def _open_work(
    conn: Connection, messages: Iterable[tuple[Lease, EmbeddingTask]], *, caching: bool
) -> Iterable[_Work]:
    """The tasks whose job is unfinished and whose batch is not stored, with what they still need."""
    messages = list(messages)
    found = jobs.get_many(conn, sorted({message.job_id for _, message in messages}))
    for lease, message in messages:
        job = found.get(message.job_id)
        if job is None or not BatchId.parse(lease.task.id).wanted_by(job):
            continue
        batch = jobs.batches_of(conn, message.job_id, [message.ordinal]).get(message.ordinal)
        if batch is None or batch.state is BatchState.DONE:
            continue
        ids = message.chunk_id_list()
        there = chunks.stored(conn, ids)
        wanted = np.array([i for i, chunk_id in enumerate(ids) if chunk_id not in there], dtype=np.int64)
        cached = cached_embedding.look_up(conn, job, _tokens(message, wanted)) if caching else None
        yield _Work(lease, message, ids, wanted, cached)


def _joined(work: Sequence[_Work]) -> TokenBatch:
    """All wanted chunks of all tasks, in order."""
    parts = [_tokens(item.message, item.wanted) for item in work]
    return TokenBatch(
        np.concatenate([part.token_ids for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )


def _tokens(message: EmbeddingTask, positions: NDArray[np.int64]) -> TokenBatch:
    batch = TokenBatch(message.token_ids_array(), message.lengths_array().astype(np.int64))
    return batch.take(positions)


def _storage_tasks(work: Sequence[_Work], outcome: EmbedOutcome, dim: int) -> Iterable[Task]:
    start = 0
    for item in work:
        rows = range(start, start + len(item.wanted))
        start = rows.stop
        dead = [
            DeadChunk(position=int(item.wanted[row - rows.start]), reason=outcome.failed[row])
            for row in rows
            if row in outcome.failed
        ]
        good = [row for row in rows if row not in outcome.failed]
        ids = [item.chunk_ids[int(item.wanted[row - rows.start])] for row in good]
        message = StorageTask(
            tenant_id=item.message.tenant_id,
            job_id=item.message.job_id,
            ordinal=item.message.ordinal,
            space=item.message.space,
            dim=dim,
            chunk_ids=pack_chunk_ids(ids),
            vectors=outcome.vectors[good].astype("<f4", copy=False).tobytes(),
            dead=tuple(dead),
        )
        task = item.lease.task
        yield Task(
            id=task.id,
            tenant_id=task.tenant_id,
            job_id=task.job_id,
            cost=task.cost,
            payload=message.encode(),
            priority=task.priority,
        )


def _record(conn: Connection, work: Sequence[_Work], uses: Sequence[CacheUse | None], now: float) -> None:
    current = jobs.lock_many(conn, sorted({item.message.job_id for item in work}))
    for item, use in sorted(zip(work, uses, strict=True), key=lambda pair: pair[0].message.job_id):
        job = current.get(item.message.job_id)
        if job is None:
            continue
        if use is not None:
            # Also when storage was faster and the job is over: what was paid for is kept. A document's
            # jobs go in one unit with its cached vectors, so none is left behind.
            embedding_cache.record_use(conn, use, now)
        if BatchId.parse(item.lease.task.id).wanted_by(job):
            jobs.embedded(conn, item.message.job_id, item.message.ordinal, reused=_reused(item))


def _reused(item: _Work) -> int:
    return len(item.chunk_ids) - len(item.wanted)
