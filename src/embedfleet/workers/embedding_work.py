"""Looks up in SQL and in the cache which chunks of a claimed embedding task still need the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import Permanent
from embedfleet.inference.backend import TokenBatch
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import EmbeddingTask
from embedfleet.records import chunks, dead_letters, embedding_cache, jobs, segments
from embedfleet.records.batches import EmbeddedBatch, batches_among
from embedfleet.records.jobs import Job
from embedfleet.sql.states import BatchState
from embedfleet.workers import cached_embedding
from embedfleet.workers.cached_embedding import CacheLookup, CacheQuestion


@dataclass(frozen=True, slots=True)
class EmbeddingWork:
    """A claimed task whose batch is still wanted.

    Its chunks belong to one generation of a document; the first has the index `first_chunk`. A position
    counts the chunks of the message from 0.

    `wanted`: the positions of the chunks that have no stored vector and were not given up, in order.
    `dead`: the reason for each position that was given up before.
    `cached`: the cache's answer about the wanted chunks; None if the cache was not asked.
    """

    lease: Lease
    message: EmbeddingTask
    document_id: str
    generation_id: int
    first_chunk: int
    chunk_ids: Sequence[str]
    wanted: Sequence[int]
    dead: Mapping[int, str]
    cached: CacheLookup | None = None

    @property
    def known(self) -> Sequence[NDArray[np.float32] | None]:
        """The cached vector of each wanted chunk; None for a chunk that the model must embed."""
        return [None] * len(self.wanted) if self.cached is None else self.cached.vectors()

    @property
    def reused(self) -> int:
        """The number of chunks that have a stored vector already."""
        return len(self.chunk_ids) - len(self.wanted) - len(self.dead)

    @property
    def from_cache(self) -> int:
        """The number of wanted chunks whose vector the cache has."""
        return 0 if self.cached is None else self.cached.found

    def embedded(self) -> EmbeddedBatch:
        """Return what is to be counted when the whole batch is embedded."""
        return EmbeddedBatch(self.message.job_id, self.message.ordinal, self.reused + self.from_cache)

    def counts_for(self, current: Mapping[str, Job]) -> bool:
        """Whether the batch is to be counted, given the present state of the jobs by id.

        The batch of a part is not: it counts when all of its parts are stored.
        """
        batch_id = BatchId.parse(self.lease.task.id)
        return batch_id.span is None and batch_id.wanted_by(current.get(batch_id.job_id))


def open_work(conn: Connection, messages: Sequence[tuple[Lease, EmbeddingTask]]) -> list[EmbeddingWork]:
    """Return the work of the tasks whose run of the job goes on and whose batch is not stored yet.

    The other tasks need no work and are left out.
    """
    opened: list[EmbeddingWork] = []
    job_ids = sorted({message.job_id for _, message in messages})
    found_jobs = jobs.get_many(conn, job_ids)
    given_up = dead_letters.reasons(conn, job_ids)
    batches = batches_among(conn, sorted({(message.job_id, message.ordinal) for _, message in messages}))
    stored = chunks.ids_stored(
        conn, [chunk_id for _, message in messages for chunk_id in message.chunk_id_list()]
    )
    for lease, message in messages:
        job = found_jobs.get(message.job_id)
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
            if chunk_id not in stored and (message.job_id, first + i) in given_up
        }
        wanted = [i for i, chunk_id in enumerate(ids) if chunk_id not in stored and i not in dead]
        opened.append(
            EmbeddingWork(lease, message, job.document_id, job.generation_id, first, ids, wanted, dead)
        )
    return opened


def prepare(
    conn: Connection, work: Sequence[EmbeddingWork], *, needs_texts: bool, caching: bool
) -> tuple[Sequence[EmbeddingWork], TokenBatch]:
    """Return the work with the answers of the cache, and one batch of all wanted chunks, in order.

    With `needs_texts` the model reads strings, so the batch carries the texts too. Raises Permanent if the
    text of a document is gone.
    """
    batch = _joined(work)
    if needs_texts:
        batch = replace(batch, texts=_texts(conn, work))
    return _with_cache(conn, work, batch) if caching else work, batch


def _joined(work: Sequence[EmbeddingWork]) -> TokenBatch:
    """Join the wanted chunks of all tasks."""
    messages = [item.message for item in work]
    batch = TokenBatch(
        np.concatenate([message.token_ids_array() for message in messages]),
        np.concatenate([message.lengths_array() for message in messages]).astype(np.int64),
    )
    wanted: list[int] = []
    first = 0
    for item in work:
        wanted += (first + position for position in item.wanted)
        first += len(item.chunk_ids)
    return batch.take(np.array(wanted, dtype=np.int64))


def _texts(conn: Connection, work: Sequence[EmbeddingWork]) -> tuple[str, ...]:
    """Return the contexts and texts of the wanted chunks, in the order of `_joined`."""
    rows_of = chunks.between(
        conn, [(item.generation_id, item.first_chunk, len(item.chunk_ids)) for item in work]
    )
    wanted: list[tuple[int, list[tuple[int, int]]]] = []
    contexts: list[str] = []
    for item, rows in zip(work, rows_of, strict=True):
        if [row.chunk_id for row in rows] != list(item.chunk_ids):
            raise _text_is_gone(item)
        wanted.append((item.generation_id, [(rows[i].start, rows[i].end) for i in item.wanted]))
        contexts += [rows[i].context for i in item.wanted]
    found: list[str] = []
    for item, texts in zip(work, segments.texts_of(conn, wanted), strict=True):
        if texts is None:
            raise _text_is_gone(item)
        found += texts
    return tuple(context + text for context, text in zip(contexts, found, strict=True))


def _text_is_gone(item: EmbeddingWork) -> Permanent:
    return Permanent(f"job {item.lease.task.job_id}: its document's text is gone: submit it again")


def _with_cache(conn: Connection, work: Sequence[EmbeddingWork], batch: TokenBatch) -> list[EmbeddingWork]:
    hashes = iter(embedding_cache.content_hashes(batch.token_ids, batch.lengths, batch.texts))
    questions = [
        CacheQuestion(item.generation_id, item.document_id, tuple(islice(hashes, len(item.wanted))))
        for item in work
    ]
    answers = cached_embedding.look_up(conn, questions)
    return [replace(item, cached=answer) for item, answer in zip(work, answers, strict=True)]
