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

from embedfleet.errors import Permanent, SpaceMismatch, Transient, UndecodableMessage
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.pool import ModelPool
from embedfleet.inference.runner import EmbedOutcome, ModelRunner
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.completion import give_up_batch
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import (
    DeadChunk,
    EmbeddingTask,
    Stage,
    StorageTask,
    pack_chunk_ids,
)
from embedfleet.records import chunks, dead_letters, embedding_cache, jobs, segments
from embedfleet.records.batches import batches_among
from embedfleet.records.embedding_cache import CacheUse
from embedfleet.settings import DEFAULT_BATCH_TOKENS
from embedfleet.sql.tables import BatchState
from embedfleet.workers import cached_embedding
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded
from embedfleet.workers.cached_embedding import CacheLookup
from embedfleet.workers.canary import Canary
from embedfleet.workers.claim_progress import ClaimProgress
from embedfleet.workers.services import Services

# Of a batch of 64: 8 of 8 chunks, then 8 of one. Halving would take three times as many deaths.
_PARTS = 8

# Two claims are in hand: while the model is at the calls of one, the other is fetched or handed on.
_CALLS_PER_CLAIM = 4


def tokens_per_claim(call_tokens: int) -> int:
    """For models whose calls have so many: a device must not be done before the next claim is prepared."""
    return max(DEFAULT_BATCH_TOKENS, _CALLS_PER_CLAIM * call_tokens)


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


class EmbeddingLoop(StageLoop):
    """Turns `EmbeddingTask`s into `StorageTask`s."""

    stage = Stage.EMBEDDING

    def __init__(
        self, name: str, services: Services, *, models: ModelPool, canary: Canary, caching: bool
    ) -> None:
        super().__init__(name, services)
        self._models = models
        self._canary = canary
        self._caching = caching
        self._storage_pool = services.pools.storage

    def max_attempts(self, lease: Lease) -> int:
        """A part of what killed its worker is divided again at once."""
        span = BatchId.parse(lease.task.id).span
        return super().max_attempts(lease) if span is None or span[1] - span[0] == 1 else 1

    def must_run_alone(self, lease: Lease) -> bool:
        part = BatchId.parse(lease.task.id).span is not None
        return super().must_run_alone(lease) or (part and self.attempt_of(lease) <= self.max_attempts(lease))

    def tokens_per_claim(self) -> int:
        return tokens_per_claim(self._models.largest_call_tokens())

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

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, failures = decoded(leases, EmbeddingTask)
        work = await self._database.read(lambda conn: list(_open_work(conn, messages)))
        by_model: dict[tuple[str, str], list[_Work]] = {}
        for item in work:
            by_model.setdefault((item.message.model, item.message.space), []).append(item)
        outcomes = await asyncio.gather(
            *(self._embed_group(model, space, items, done) for (model, space), items in by_model.items())
        )
        return dict(failures) | {name: failure for outcome in outcomes for name, failure in outcome.items()}

    async def give_up(self, lease: Lease, reason: str) -> None:
        await give_up_batch(self._database, lease, reason, self._clock.now())

    async def _embed_group(
        self, model: str, space: str, work: Sequence[_Work], done: Done
    ) -> dict[str, Exception]:
        """What failed of tasks of one model: those that were not handed on before."""
        left = {item.lease.task.id for item in work}

        async def handed_on(lease: Lease) -> None:
            left.discard(lease.task.id)
            await done(lease)

        try:
            async with self._models.using(model) as runner:
                if runner.info.space != space:
                    raise SpaceMismatch(
                        f"model `{model}` has space {runner.info.space}, the batch was made for {space}"
                    )
                await self._canary.check_if_due(runner)
                await self._embed(runner, work, handed_on)
        except Exception as exc:  # noqa: BLE001 - whatever it was, it is these tasks'
            return dict.fromkeys(left, exc)
        return {}

    async def _embed(self, runner: ModelRunner, opened: Sequence[_Work], handed_on: Done) -> None:
        """Embed, and hand on each task as soon as it is whole: a small one does not wait for the claim."""
        needs_texts = runner.info.needs_texts
        work, batch = await self._database.read(
            lambda conn: _prepared(conn, opened, needs_texts=needs_texts, caching=self._caching)
        )
        progress = ClaimProgress([item.known for item in work], runner.info.dim)
        embedding = asyncio.create_task(
            runner.embed(batch.take(progress.missing), owners=progress.owners, on_part=progress.add_outcome)
        )
        embedding.add_done_callback(lambda _: progress.changed.set())
        try:
            while True:
                await progress.changed.wait()
                progress.changed.clear()
                over = embedding.done()  # before looking: what became whole after that is looked for again
                await self._hand_on(work, progress, handed_on)
                if over:
                    await embedding
                    return
        except Transient:
            await self._keep_begun(work, progress)
            raise
        finally:
            embedding.cancel()
            await asyncio.gather(embedding, return_exceptions=True)

    async def _hand_on(self, work: Sequence[_Work], progress: ClaimProgress, handed_on: Done) -> None:
        whole = [(work[number], progress.outcome(number), number) for number in progress.take_completed()]
        if not whole:
            return
        await offer(self._broker, Stage.STORAGE, [_storage_task(item, outcome) for item, outcome, _ in whole])
        await self._record([(item, outcome) for item, outcome, _ in whole], finished=True)
        await asyncio.gather(*(handed_on(item.lease) for item, _, _ in whole))
        self._count([(item, progress.embedded_positions(number)) for item, _, number in whole])

    async def _keep_begun(self, work: Sequence[_Work], progress: ClaimProgress) -> None:
        """In the cache, what was embedded of tasks that are not whole: a server may have been paid for it."""
        if self._caching and (begun := progress.take_partial()):
            await self._record([(work[number], progress.outcome(number)) for number in begun], finished=False)

    async def _record(self, outcomes: Sequence[tuple[_Work, EmbedOutcome]], *, finished: bool) -> None:
        uses = [
            (item, None if item.cached is None else item.cached.use(outcome)) for item, outcome in outcomes
        ]
        now = self._clock.now()
        await self._database.write(lambda conn: _record(conn, uses, now, finished=finished))

    def _count(self, whole: Sequence[tuple[_Work, NDArray[np.int64]]]) -> None:
        """Tasks handed on, each with the positions of the wanted chunks that the model embedded."""
        chunks_embedded = sum(len(embedded) for _, embedded in whole)
        self._metrics.batch_chunks.labels(self.stage.value).observe(chunks_embedded)
        self._metrics.chunks_embedded_total.inc(chunks_embedded)
        for item, embedded in whole:
            self._metrics.chunks_reused_total.inc(item.reused)
            if item.cached is not None:
                self._metrics.cache_misses_total.inc(len(embedded))
                self._metrics.cache_hits_total.inc(len(item.wanted) - len(embedded))
            tokens = int(item.message.lengths_array()[item.wanted][embedded].sum(dtype=np.int64))
            self._metrics.tokens_embedded_total.inc(tokens)
            self._metrics.count_tenant(item.message.tenant, tokens=tokens)


def _open_work(conn: Connection, messages: Iterable[tuple[Lease, EmbeddingTask]]) -> Iterable[_Work]:
    """The tasks whose job is unfinished and whose batch is not stored, with what they still need."""
    messages = list(messages)
    job_ids = sorted({message.job_id for _, message in messages})
    found = jobs.get_many(conn, job_ids)
    given_up = dead_letters.reasons(conn, job_ids)
    batches = batches_among(conn, sorted({(message.job_id, message.ordinal) for _, message in messages}))
    there = chunks.ids_stored(
        conn, [chunk_id for _, message in messages for chunk_id in message.chunk_id_list()]
    )
    for lease, message in messages:
        job = found.get(message.job_id)
        if job is None or not BatchId.parse(lease.task.id).wanted_by(job):
            continue
        batch = batches.get((message.job_id, message.ordinal))
        if batch is None or batch.state is BatchState.DONE:
            continue
        ids = message.chunk_id_list()
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
    return _with_cache(conn, work, batch) if caching else work, batch


def _with_cache(conn: Connection, work: Sequence[_Work], batch: TokenBatch) -> list[_Work]:
    hashes = iter(embedding_cache.content_hashes(batch.token_ids, batch.lengths, batch.texts))
    asked = [
        cached_embedding.Question(
            item.generation_id, item.document_id, tuple(islice(hashes, len(item.wanted)))
        )
        for item in work
    ]
    answers = cached_embedding.look_up(conn, asked)
    return [replace(item, cached=cached) for item, cached in zip(work, answers, strict=True)]


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
            pieces = segments.between(conn, item.generation_id, start, end)
            texts += segments.slice_text(pieces, wanted)
    return tuple(texts)


def _tokens(message: EmbeddingTask, positions: NDArray[np.int64]) -> TokenBatch:
    batch = TokenBatch(message.token_ids_array(), message.lengths_array().astype(np.int64))
    return batch.take(positions)


def _storage_task(item: _Work, outcome: EmbedOutcome) -> Task:
    """`outcome`: of the item's wanted chunks."""
    offset = item.message.first_position
    dead = dict(item.dead) | {int(item.wanted[row]): reason for row, reason in outcome.failed.items()}
    good = [row for row in range(len(item.wanted)) if row not in outcome.failed]
    message = StorageTask(
        tenant=item.message.tenant,
        job_id=item.message.job_id,
        ordinal=item.message.ordinal,
        span=item.message.span,
        space=item.message.space,
        dim=outcome.vectors.shape[1],
        chunk_ids=pack_chunk_ids([item.chunk_ids[int(item.wanted[row])] for row in good]),
        vectors=outcome.vectors[good].astype("<f4", copy=False).tobytes(),
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
    conn: Connection, uses: Sequence[tuple[_Work, CacheUse | None]], now: float, *, finished: bool
) -> None:
    """What was embedded is kept, and if it was all, the batches are embedded."""
    current = jobs.lock_many(conn, sorted({item.message.job_id for item, _ in uses}))
    for item, use in sorted(uses, key=lambda pair: pair[0].message.job_id):
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
            jobs.record_batch_embedded(conn, item.message.job_id, item.message.ordinal, reused=item.reused)


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
