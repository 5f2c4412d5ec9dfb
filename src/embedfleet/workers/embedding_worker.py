"""Embedding: batches of token ids to vectors.

Chunks of all claimed tasks, whatever their tenant, go to the model together; the runner groups them by
length. Chunks whose vector is in the store already are left out, and the cache is asked before the model.

A batch that ended with its worker as often as is allowed is divided, its parts again, each tried alone: what
kills the model is found and given up, its neighbours are embedded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import Permanent, SpaceMismatch, UndecodableMessage
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import EmbedOutcome, Unfinished
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue_schemas import (
    DeadChunk,
    EmbeddingTask,
    Stage,
    StorageTask,
    pack_chunk_ids,
)
from embedfleet.storage import chunks, dead_letters, documents, embedding_cache, jobs
from embedfleet.storage.embedding_cache import CacheUse
from embedfleet.storage.tables import BatchState
from embedfleet.workers import cached_embedding
from embedfleet.workers.base_worker import Failures, Worker, decoded, offer
from embedfleet.workers.batch_id import BatchId
from embedfleet.workers.cached_embedding import CacheLookup
from embedfleet.workers.completion import give_up_batch
from embedfleet.workers.services import Services

# Of a batch of 64: 8 of 8 chunks, then 8 of one. Halving would take three times as many deaths.
_PARTS = 8


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed task that has something to do, from chunk `first_chunk` of its document's version on.

    `wanted`: positions in the message whose vector is not stored yet, but for the `dead`, which were given up
    before (position in the message -> reason). `cached`: what the cache answered, None if it was not asked.
    """

    lease: Lease
    message: EmbeddingTask
    document_id: str
    generation_id: int
    first_chunk: int
    chunk_ids: Sequence[str]
    wanted: NDArray[np.int64]
    dead: Mapping[int, str]
    cached: CacheLookup | None = None

    @property
    def known(self) -> Sequence[NDArray[np.float32] | None]:
        """The vector of each wanted chunk that needs no model."""
        return [None] * len(self.wanted) if self.cached is None else self.cached.vectors()

    @property
    def reused(self) -> int:
        """Chunks that need no vector, having one."""
        return len(self.chunk_ids) - len(self.wanted) - len(self.dead)


class EmbeddingWorker(Worker):
    """Turns `EmbeddingTask`s into `StorageTask`s."""

    stage = Stage.EMBEDDING

    def __init__(self, name: str, services: Services, *, models: ModelPool, caching: bool) -> None:
        super().__init__(name, services)
        self._models = models
        self._caching = caching
        self._storage_pool = services.pools.storage

    def most_attempts(self, lease: Lease) -> int:
        """A part of what killed its worker is divided again at once."""
        span = BatchId.parse(lease.task.id).span
        return super().most_attempts(lease) if span is None or span[1] - span[0] == 1 else 1

    def is_suspect(self, lease: Lease) -> bool:
        part = BatchId.parse(lease.task.id).span is not None
        return super().is_suspect(lease) or (part and self.attempt_of(lease) <= self.most_attempts(lease))

    async def divide(self, lease: Lease, reason: str) -> bool:
        try:
            message = EmbeddingTask.decode(lease.task.payload)
        except UndecodableMessage:
            return False
        if len(message.chunk_id_list()) == 1:
            return False
        work = await self._database.read(lambda conn: list(_open_work(conn, [(lease, message)])))
        parts = [part for item in work for part in _parts(item)]
        if work and not parts:  # all is stored or dead: there is nothing to try
            return False
        await offer(self._broker, Stage.EMBEDDING, parts)
        return True

    async def has_room(self) -> bool:
        depth = await self._broker.depth(Stage.STORAGE)
        return depth.ready < self._storage_pool.max_queued_tasks

    async def process(self, leases: Sequence[Lease]) -> Failures:
        messages, failures = decoded(leases, EmbeddingTask)
        work = await self._database.read(lambda conn: list(_open_work(conn, messages)))
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
        await give_up_batch(self._database, lease, reason, self._clock.now())

    async def _embed_group(self, model: str, space: str, opened: Sequence[_Work]) -> None:
        async with self._models.using(model) as runner:
            info = runner.info
            if info.space != space:
                raise SpaceMismatch(f"model `{model}` has space {info.space}, the batch was made for {space}")
            work, batch = await self._database.read(
                lambda conn: _prepared(conn, opened, needs_texts=info.needs_texts, caching=self._caching)
            )
            known = [vector for item in work for vector in item.known]
            try:
                outcome = await cached_embedding.embed_missing(runner, batch, known)
            except Unfinished as exc:
                await self._record(work, exc.outcome, finished=False)
                raise
        tasks = list(_storage_tasks(work, outcome, info.dim))
        await offer(self._broker, Stage.STORAGE, tasks)
        await self._record(work, outcome, finished=True)
        self._count(batch.take(cached_embedding.missing(known)), work)

    async def _record(self, work: Sequence[_Work], outcome: EmbedOutcome, *, finished: bool) -> None:
        uses = list(cached_embedding.uses(((item.cached, len(item.wanted)) for item in work), outcome))
        now = self._clock.now()
        await self._database.write(lambda conn: _record(conn, work, uses, now, finished=finished))

    def _count(self, batch: TokenBatch, work: Sequence[_Work]) -> None:
        self._metrics.batch_chunks.labels(self.stage.value).observe(len(batch))
        self._metrics.chunks_embedded_total.inc(len(batch))
        self._metrics.tokens_embedded_total.inc(int(batch.lengths.sum()))
        self._metrics.chunks_reused_total.inc(sum(item.reused for item in work))
        for item in work:
            embedded = cached_embedding.missing(item.known)
            if item.cached is not None:
                self._metrics.cache_misses_total.inc(len(embedded))
                self._metrics.cache_hits_total.inc(len(item.wanted) - len(embedded))
            lengths = item.message.lengths_array()[item.wanted][embedded]
            self._metrics.count_tenant(item.message.tenant_id, tokens=int(lengths.sum(dtype=np.int64)))


def _open_work(conn: Connection, messages: Iterable[tuple[Lease, EmbeddingTask]]) -> Iterable[_Work]:
    """The tasks whose job is unfinished and whose batch is not stored, with what they still need."""
    messages = list(messages)
    job_ids = sorted({message.job_id for _, message in messages})
    found = jobs.get_many(conn, job_ids)
    given_up = dead_letters.reasons(conn, job_ids)
    for lease, message in messages:
        job = found.get(message.job_id)
        if job is None or not BatchId.parse(lease.task.id).wanted_by(job):
            continue
        batch = jobs.batches_of(conn, message.job_id, [message.ordinal]).get(message.ordinal)
        if batch is None or batch.state is BatchState.DONE:
            continue
        ids = message.chunk_id_list()
        there = chunks.stored(conn, ids)
        first = batch.first_chunk + message.first_position
        dead = {
            i: given_up[message.job_id, first + i]
            for i, chunk_id in enumerate(ids)
            if chunk_id not in there and (message.job_id, first + i) in given_up
        }
        left = [i for i, chunk_id in enumerate(ids) if chunk_id not in there and i not in dead]
        wanted = np.array(left, dtype=np.int64)
        yield _Work(lease, message, job.document_id, job.generation_id, first, ids, wanted, dead)


def _prepared(
    conn: Connection, work: Sequence[_Work], *, needs_texts: bool, caching: bool
) -> tuple[Sequence[_Work], TokenBatch]:
    """What the model would have to embed, and the work with the cache asked."""
    batch = _joined(work)
    if needs_texts:
        batch = replace(batch, texts=_texts(conn, work))
    return list(_with_cache(conn, work, batch)) if caching else work, batch


def _with_cache(conn: Connection, work: Sequence[_Work], batch: TokenBatch) -> Iterable[_Work]:
    hashes = iter(embedding_cache.content_hashes(batch.token_ids, batch.lengths, batch.texts))
    for item in work:
        mine = list(islice(hashes, len(item.wanted)))
        cached = cached_embedding.look_up(conn, item.generation_id, item.document_id, mine)
        yield replace(item, cached=cached)


def _joined(work: Sequence[_Work]) -> TokenBatch:
    """All wanted chunks of all tasks, in order."""
    parts = [_tokens(item.message, item.wanted) for item in work]
    return TokenBatch(
        np.concatenate([part.token_ids for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )


def _texts(conn: Connection, work: Sequence[_Work]) -> tuple[str, ...]:
    """The strings of what `_joined` joins. Raises Permanent when a document's text is gone."""
    texts: list[str] = []
    for item in work:
        rows = chunks.between(conn, item.generation_id, item.first_chunk, len(item.chunk_ids))
        if [row.chunk_id for row in rows] != list(item.chunk_ids):
            raise Permanent(f"job {item.lease.task.job_id}: its document's text is gone: submit it again")
        wanted = [(rows[i].start, rows[i].end) for i in item.wanted]
        if wanted:
            start, end = wanted[0][0], max(end for _, end in wanted)
            segments = documents.segments_between(conn, item.generation_id, start, end)
            texts += documents.slice_text(segments, wanted)
    return tuple(texts)


def _tokens(message: EmbeddingTask, positions: NDArray[np.int64]) -> TokenBatch:
    batch = TokenBatch(message.token_ids_array(), message.lengths_array().astype(np.int64))
    return batch.take(positions)


def _storage_tasks(work: Sequence[_Work], outcome: EmbedOutcome, dim: int) -> Iterable[Task]:
    start = 0
    for item in work:
        rows = range(start, start + len(item.wanted))
        start = rows.stop
        offset = item.message.first_position
        dead = dict(item.dead) | {
            int(item.wanted[row - rows.start]): outcome.failed[row] for row in rows if row in outcome.failed
        }
        good = [row for row in rows if row not in outcome.failed]
        ids = [item.chunk_ids[int(item.wanted[row - rows.start])] for row in good]
        message = StorageTask(
            tenant_id=item.message.tenant_id,
            job_id=item.message.job_id,
            ordinal=item.message.ordinal,
            span=item.message.span,
            space=item.message.space,
            dim=dim,
            chunk_ids=pack_chunk_ids(ids),
            vectors=outcome.vectors[good].astype("<f4", copy=False).tobytes(),
            dead=tuple(
                DeadChunk(position=offset + position, reason=reason)
                for position, reason in sorted(dead.items())
            ),
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


def _record(
    conn: Connection, work: Sequence[_Work], uses: Sequence[CacheUse | None], now: float, *, finished: bool
) -> None:
    """What was embedded is kept, and if it was all, the batches are embedded."""
    current = jobs.lock_many(conn, sorted({item.message.job_id for item in work}))
    for item, use in sorted(zip(work, uses, strict=True), key=lambda pair: pair[0].message.job_id):
        job = current.get(item.message.job_id)
        if job is None:
            continue
        if use is not None:
            # Also when storage was faster and the job is over: what was paid for is kept. A document's
            # jobs go in one unit with its cached vectors, so none is left behind.
            embedding_cache.record_use(conn, use, now)
        named = BatchId.parse(item.lease.task.id)
        # Parts count when the whole batch is stored.
        if finished and named.span is None and named.wanted_by(job):
            jobs.embedded(conn, item.message.job_id, item.message.ordinal, reused=item.reused)


def _parts(item: _Work) -> Iterable[Task]:
    """The task as several of a few chunks each, without those in which nothing is left to do."""
    task, named = item.lease.task, BatchId.parse(item.lease.task.id)
    for first, past in spans(len(item.chunk_ids), _PARTS):
        if not np.any((item.wanted >= first) & (item.wanted < past)):
            continue
        message = item.message.part(first, past)
        yield replace(
            task,
            id=str(replace(named, span=message.span)),
            cost=max(1, int(message.lengths_array().sum(dtype=np.int64))),
            payload=message.encode(),
        )


def spans(count: int, parts: int) -> list[tuple[int, int]]:
    """[0, count) in at most so many parts of equal length, but for the last."""
    length = max(1, -(-count // parts))
    return [(first, min(first + length, count)) for first in range(0, count, length)]
