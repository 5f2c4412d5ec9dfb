"""Begins documents whose chunks another system has cut: what a chunking worker would have written of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet import document_metadata
from embedfleet.adoption.survey import DocumentKey
from embedfleet.document_metadata import Value
from embedfleet.inference.backend import ModelInfo
from embedfleet.lifecycle.admission import USUAL_PRIORITY, new_job_id
from embedfleet.queue_schemas import UserTier
from embedfleet.records import (
    batches,
    chunks,
    collections,
    documents,
    generations,
    job_completion,
    jobs,
    outbox,
    tenants,
)
from embedfleet.records.batches import Batch
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.documents import DocumentName
from embedfleet.records.generations import CUT_ELSEWHERE, Generation, NewGeneration, Recipe
from embedfleet.records.job_completion import JobEnd
from embedfleet.records.jobs import Job, NewJob
from embedfleet.records.outbox import WaitingJob
from embedfleet.records.segments import Segment
from embedfleet.sql import document_lock

# A page takes a second or so. A server that is busy may take minutes.
_PAGE_SECONDS = 600.0
# Jobs are listed in the order of their creation, so those of a page get instants of their own.
_BETWEEN_JOBS_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class TakenDocument:
    """A document to write.

    `chunks`, `texts`, `vectors` (float32 (n, dim)) and `cache_keys` have one entry for each chunk.
    """

    key: DocumentKey
    document_id: str
    model: ModelInfo
    recipe: Recipe
    segments: Sequence[Segment]
    source: str | None
    metadata: Mapping[str, Value]
    coverage: float
    chunks: Sequence[ChunkRow]
    texts: Sequence[str]
    vectors: NDArray[np.float32]
    cache_keys: Sequence[bytes]

    @property
    def batches(self) -> list[Batch]:
        """The batches of its job."""
        size, count = self.recipe.batch_chunks, len(self.chunks)
        return [
            Batch(ordinal, first, min(size, count - first))
            for ordinal, first in enumerate(range(0, count, size))
        ]


@dataclass(frozen=True, slots=True)
class BegunDocument:
    """A document that is in SQL with an unfinished job. `again`: an earlier run has begun it."""

    document: TakenDocument
    generation: Generation
    job: Job
    again: bool

    @property
    def ids(self) -> list[str]:
        return [row.chunk_id for row in self.document.chunks]


def begin(
    conn: Connection, page: Sequence[TakenDocument], default_tier: UserTier, now: float
) -> list[BegunDocument]:
    """Write what a chunking worker would have written of these documents, and return them.

    Documents that are here already are left out, except those that an earlier run has begun alike.
    """
    names = sorted({one.key.tenant for one in page})
    tenants.lock(conn, names)  # before the documents: see `document_lock`
    document_lock.lock(conn, [one.document_id for one in page])
    known = generations.generations_of_many(conn, [one.document_id for one in page])
    unfinished = jobs.unfinished_of_documents(conn, list(known))
    again = [
        (one, known[one.document_id][0], unfinished[one.document_id][0])
        for one in page
        if one.document_id in unfinished and _begun_alike(conn, one, known[one.document_id][0])
    ]
    new = _without_version(conn, page, known)
    rows = tenants.get_many(conn, names)
    tiers = {name: (rows[name].tier if name in rows else None) or default_tier for name in names}
    return [
        *(BegunDocument(document, generation, job, again=True) for document, generation, job in again),
        *_begin_new(conn, new, tiers, {name: some[0].number for name, some in known.items()}, now),
    ]


def _without_version(
    conn: Connection, page: Sequence[TakenDocument], known: Mapping[str, Sequence[Generation]]
) -> list[TakenDocument]:
    """Return the documents that are not here, or of which no version is left.

    One that is being deleted is left out, as is one whose vectors are: its ids must not be written yet.
    """
    new = [one for one in page if not any(before.in_use for before in known.get(one.document_id, ()))]
    had = [one for one in new if one.document_id in known]
    busy = documents.deleted_among(conn, [one.document_id for one in had])
    ids = {row.chunk_id: one.document_id for one in had for row in one.chunks}
    busy |= {ids[chunk_id] for chunk_id in chunks.ids_being_deleted(conn, list(ids))}
    return [one for one in new if one.document_id not in busy]


def _begun_alike(conn: Connection, one: TakenDocument, generation: Generation) -> bool:
    """Whether an earlier run has begun to take the document with these very chunks."""
    if not generation.begun_elsewhere:
        return False
    (there,) = chunks.between(conn, [(generation.generation_id, 0, len(one.chunks) + 1)])
    same_text = generation.recipe.content_hash == one.recipe.content_hash
    return same_text and [row.chunk_id for row in there] == [row.chunk_id for row in one.chunks]


def _begin_new(
    conn: Connection,
    new: Sequence[TakenDocument],
    tiers: Mapping[str, UserTier],
    numbers: Mapping[str, int],
    now: float,
) -> list[BegunDocument]:
    """Write new documents. `numbers` has the number of the last version of those that had one."""
    if not new:
        return []
    names = [DocumentName(one.document_id, *one.key, one.source) for one in new]
    documents.ensure_documents(conn, names, now)
    generation_ids = _add_generations(conn, new, numbers)
    named = list(zip(new, generation_ids, strict=True))
    job_ids = _add_jobs(conn, named, tiers, now)
    chunks.add(conn, [(one.document_id, generation_id, one.chunks) for one, generation_id in named])
    batches.add(conn, {job_id: one.batches for one, job_id in zip(new, job_ids, strict=True)})
    ends = [JobEnd(job_id, len(one.chunks), one.coverage) for one, job_id in zip(new, job_ids, strict=True)]
    broken = job_completion.seal(conn, ends, now)
    assert not broken, f"the batches were made of the chunks: {broken}"
    made = generations.generations_by_id(conn, generation_ids)
    found = jobs.get_many(conn, job_ids)
    return [
        BegunDocument(one, made[generation_id], found[job_id], again=False)
        for (one, generation_id), job_id in zip(named, job_ids, strict=True)
    ]


def _add_jobs(
    conn: Connection,
    named: Sequence[tuple[TakenDocument, int]],
    tiers: Mapping[str, UserTier],
    now: float,
) -> list[str]:
    """Write the jobs of these documents and generation ids, and return their ids, in order."""
    new = [
        NewJob(
            job_id=new_job_id(now),
            tenant=one.key.tenant,
            document_id=one.document_id,
            generation_id=generation_id,
            user_tier=tiers[one.key.tenant],
            priority=USUAL_PRIORITY,
            created_at=now + place * _BETWEEN_JOBS_SECONDS,
        )
        for place, (one, generation_id) in enumerate(named)
    ]
    jobs.create(conn, new)
    # They count as offered a while from now: after that, a leader offers them again if no broker knows them.
    # So one that runs beside the adoption leaves it the time to write a page.
    offered = [
        WaitingJob(job.job_id, 1, job.tenant, job.priority, None, one.recipe.chars)
        for job, (one, _) in zip(new, named, strict=True)
    ]
    outbox.mark_offered(conn, offered, now + _PAGE_SECONDS)
    return [job.job_id for job in new]


def _add_generations(conn: Connection, new: Sequence[TakenDocument], numbers: Mapping[str, int]) -> list[int]:
    wanted = [
        collections.Wanted(one.key.tenant, one.model.name, one.model.space, one.model.dim) for one in new
    ]
    there = collections.ensure(conn, list(dict.fromkeys(wanted)))
    return generations.add_generations(
        conn,
        [
            NewGeneration(
                one.document_id,
                numbers.get(one.document_id, 0) + 1,
                one.recipe,
                there[collection.key],
                one.segments,
                CUT_ELSEWHERE,
                written_metadata=document_metadata.written(one.metadata),
            )
            for one, collection in zip(new, wanted, strict=True)
        ],
    )
