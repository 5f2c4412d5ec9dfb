"""The chunking worker turns the document of a job into chunks, batches and embedding tasks.

A task that is repeated makes the same chunks and batches, and skips the stored ones. So after a crash only
the cutting is repeated. The worker pauses while the embedding queue is full, so its use of memory does not
grow with the document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection

from embedfleet.chunking.chunker import PARTITION_VERSION, Chunk, Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.errors import Permanent, SpaceMismatch
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.completion import publish_done
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import ChunkingTask, EmbeddingTask, Stage, pack_chunk_ids
from embedfleet.records import batches, chunks, documents, jobs, segments
from embedfleet.records.batches import Batch
from embedfleet.records.chunks import HEADING_SEPARATOR, ChunkRow
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.documents import Generation
from embedfleet.records.identity import ChunkIds
from embedfleet.records.jobs import Job
from embedfleet.retry import BackOff
from embedfleet.sql.tables import GenerationState
from embedfleet.workers.base_worker import Done, Failures, StageLoop, one_by_one
from embedfleet.workers.services import Services
from embedfleet.workers.settling import Interrupted

T = TypeVar("T")

# Batches written in one transaction: enough to share its cost, few enough to hold in memory.
_BATCHES_PER_WRITE = 8
# The tokens that may wait in the embedding queue, beside `max_queued_tasks`: a fleet of several dozen workers
# has work for minutes then, and the tasks fit in memory.
_MAX_QUEUED_TOKENS = 1_048_576
# While the queue is full, the pause between two looks doubles: dozens of documents may be waiting for room.
_SHORTEST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class _NewBatch:
    """A batch that was cut just now, as rows for SQL and as a task for the broker."""

    row: Batch
    chunk_rows: tuple[ChunkRow, ...]
    task: Task


@dataclass(frozen=True, slots=True)
class _End:
    """The totals of a document that is chunked to its end.

    `coverage` is the share of the text, 0 to 1, that is in the chunks.
    """

    chunks: int
    coverage: float


class ChunkingLoop(StageLoop):
    """Turns `ChunkingTask`s into `EmbeddingTask`s."""

    stage = Stage.CHUNKING

    def __init__(self, name: str, services: Services, *, catalogue: Catalogue, cpu: Executor) -> None:
        super().__init__(name, services)
        self._catalogue = catalogue
        self._cpu = cpu
        self._embedding_pool = services.pools.embedding

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        return await one_by_one(leases, self._chunk)

    async def give_up(self, lease: Lease, reason: str) -> None:
        now = self._clock.now()

        def fail(conn: Connection) -> None:
            job = jobs.lock(conn, lease.task.job_id)
            if job is not None:
                ending.give_up(conn, job, DeadLetter(self.stage, reason), now)

        await self._database.write(fail)

    async def _chunk(self, lease: Lease) -> None:
        job_id = ChunkingTask.decode(lease.task.payload).job_id
        started = await self._database.write(lambda conn: self._start(conn, job_id))
        if started is None:
            return
        job, generation = started
        info = await self._model_of(generation)
        tokenizer = await self._on_cpu(lambda: load_tokenizer(info.tokenizer_file))
        chunker = Chunker(
            tokenizer,
            generation.recipe.chunking,
            max_tokens=info.max_tokens,
            content_type=generation.recipe.content_type,
        )
        coming = self._new_batches(job, generation, chunker)
        chunks_total = 0
        sealed = False
        while not sealed:
            made = await self._on_cpu(lambda: _take(coming, _BATCHES_PER_WRITE))
            chunks_total += sum(batch.row.chunks for batch in made)
            sealed = len(made) < _BATCHES_PER_WRITE
            end = _End(chunks_total, chunker.coverage.ratio) if sealed else None
            self._make_way()
            if not await self._hand_on(job, generation, made, end):
                self._log.info("job ended while it was chunked", job_id=job_id)
                return
        self._log.debug("chunked", job_id=job_id, chunks=chunks_total)

    def _start(self, conn: Connection, job_id: str) -> tuple[Job, Generation] | None:
        job = jobs.lock(conn, job_id)
        if job is None or not jobs.start_chunking(conn, job_id, self._clock.now()):
            return None
        generation = documents.generation(conn, job.generation_id)
        if generation is None:
            raise Permanent(f"job {job_id}: its document's text is gone: submit it again")
        if generation.chunker_version != PARTITION_VERSION:
            # Another release has begun to cut it, perhaps elsewhere. One generation must not mix two cuts.
            if generation.state is GenerationState.LIVE:  # readers see its chunks, so they cannot be dropped
                raise Permanent(
                    f"job {job_id}: its document was cut by another release: delete it and submit it again"
                )
            chunks.drop(conn, [generation.generation_id])
            jobs.restart_partition(conn, job_id, self._clock.now())
            documents.set_chunker_version(conn, generation.generation_id, PARTITION_VERSION)
        return job, generation

    async def _model_of(self, generation: Generation) -> ModelInfo:
        wanted = generation.collection
        info = await asyncio.to_thread(self._catalogue.info, wanted.model)
        if info.space != wanted.space:
            raise SpaceMismatch(
                f"model `{wanted.model}` is not the one the job was submitted for (space {info.space}, "
                f"submitted for {wanted.space}): restore the model, or submit the document again"
            )
        return info

    def _new_batches(self, job: Job, generation: Generation, chunker: Chunker) -> Iterator[_NewBatch]:
        """Yield the document's batches in order. This blocks, so it runs on the CPU executor."""
        ids = ChunkIds(generation.document_id, generation.collection.space)
        size = generation.recipe.batch_chunks
        waiting: list[Chunk] = []
        ordinal = 0
        for block in chunker.split(self._segments(generation)):
            waiting.extend(block)
            while len(waiting) >= size:
                yield _new_batch(job, generation, ordinal, waiting[:size], ids)
                del waiting[:size]
                ordinal += 1
        if waiting:
            yield _new_batch(job, generation, ordinal, waiting, ids)

    def _segments(self, generation: Generation) -> Iterator[str]:
        ordinal = read = 0
        while read < generation.recipe.chars:
            look = partial(segments.get, generation_id=generation.generation_id, ordinal=ordinal)
            segment = self._database.read_blocking(look)
            if segment is None:
                return
            yield segment.text
            read += segment.chars
            ordinal += 1

    async def _hand_on(
        self, job: Job, generation: Generation, made: Sequence[_NewBatch], end: _End | None
    ) -> bool:
        """Write the batches to SQL, then queue those whose vectors are not stored yet.

        `end` is given with the last batches; the job's size is then written too. Return False if the job has
        ended. After a crash between the two steps, the chunking task is delivered again and queues the
        batches that were not queued.
        """
        open_batches = await self._database.write(lambda conn: self._write(conn, job, generation, made, end))
        if open_batches is None:
            return False
        wanted = {batch.ordinal for batch in open_batches}
        for batch in made:
            if batch.row.ordinal in wanted:
                await self._until_there_is_room(job.tenant)
                await offer(self._broker, Stage.EMBEDDING, [batch.task])
        return True

    def _write(
        self, conn: Connection, job: Job, generation: Generation, made: Sequence[_NewBatch], end: _End | None
    ) -> list[Batch] | None:
        """Write the batches, and return those that are not stored yet; None if the job has ended."""
        current = jobs.lock(conn, job.job_id)
        if current is None or current.status.terminal or current.run != job.run:
            return None
        open_batches: list[Batch] = []
        if made:
            rows = [row for batch in made for row in batch.chunk_rows]
            chunks.add(conn, generation.document_id, generation.generation_id, rows)
            open_batches = batches.add(conn, job.job_id, [batch.row for batch in made])
        if end is not None:
            jobs.seal(conn, job.job_id, chunks_total=end.chunks, coverage=end.coverage)
            # If every batch is stored already, no storage task will come to finish the job.
            if not open_batches:
                publish_done(conn, [current], self._clock.now())
        return open_batches

    async def _until_there_is_room(self, tenant: str) -> None:
        """Wait while the tenant fills its share of the room in the embedding queue."""
        # With exclusive use, this loop must not wait: the workers that could make room wait for this loop.
        if self._exclusive_slot.held_exclusively:
            return
        max_tasks = self._embedding_pool.max_queued_tasks
        pauses = BackOff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while await self._broker.crowded(
            Stage.EMBEDDING, [tenant], max_tasks=max_tasks, max_cost=_MAX_QUEUED_TOKENS
        ):
            self._make_way()
            await self.wait_for_room(pauses.next_seconds())

    def _make_way(self) -> None:
        if self._stop.is_set() or self._exclusive_slot.should_yield:
            raise Interrupted

    async def _on_cpu(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._cpu, work)


def _take(coming: Iterator[_NewBatch], count: int) -> list[_NewBatch]:
    return list(islice(coming, count))


def _new_batch(
    job: Job, generation: Generation, ordinal: int, members: Sequence[Chunk], ids: ChunkIds
) -> _NewBatch:
    rows = tuple(
        ChunkRow(
            chunk_index=chunk.index,
            chunk_id=ids.next_id(chunk.text),
            start=chunk.start,
            end=chunk.end,
            tokens=len(chunk.token_ids),
            heading=HEADING_SEPARATOR.join(chunk.heading),
        )
        for chunk in members
    )
    message = EmbeddingTask(
        tenant=job.tenant,
        job_id=job.job_id,
        ordinal=ordinal,
        model=generation.collection.model,
        space=generation.collection.space,
        chunk_ids=pack_chunk_ids([row.chunk_id for row in rows]),
        lengths=np.array([row.tokens for row in rows], dtype="<u4").tobytes(),
        token_ids=np.concatenate([chunk.token_ids for chunk in members]).astype("<u4").tobytes(),
    )
    task = Task(
        id=str(BatchId(job.job_id, job.run, ordinal)),
        tenant=job.tenant,
        job_id=job.job_id,
        cost=max(1, sum(row.tokens for row in rows)),
        payload=message.encode(),
        priority=job.priority,
    )
    batch = Batch(ordinal=ordinal, first_chunk=rows[0].chunk_index, chunks=len(rows))
    return _NewBatch(batch, rows, task)
