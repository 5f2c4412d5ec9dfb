"""Records how documents are cut: their chunks and batches, and at the end the size of each job.

The units take the documents of a whole claim, and their number of statements does not grow with them. What is
wrong with one document is the outcome of that document only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.account import Account
from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.errors import Permanent
from embedfleet.lifecycle.completion import publish_done
from embedfleet.records import batches, chunks, document_cleanup, job_completion, jobs, segments
from embedfleet.records import generations as generation_records
from embedfleet.records.batches import Batch
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.generations import Generation
from embedfleet.records.job_completion import JobEnd
from embedfleet.records.jobs import Job
from embedfleet.records.segments import Segment
from embedfleet.sql.states import GenerationState


@dataclass(frozen=True, slots=True)
class DocumentToCut:
    """The document of a claimed chunking task. `beginning` is the first segment of its text."""

    job: Job
    generation: Generation
    beginning: Segment | None

    @property
    def job_id(self) -> str:
        return self.job.job_id


@dataclass(frozen=True, slots=True)
class End:
    """The totals of a document that is cut to its end.

    `coverage` is the share, 0 to 1, of what a reader of the source sees that is in the chunks. `account` is
    what of the source is not in the text, or in no chunk.
    """

    chunks: int
    coverage: float
    account: Account


@dataclass(frozen=True, slots=True)
class CutBatch:
    """A batch that was cut just now."""

    batch: Batch
    rows: Sequence[ChunkRow]


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive batches of one document. The last part has the `end`; only it may have no batch."""

    document: DocumentToCut
    batches: Sequence[CutBatch]
    is_first: bool
    end: End | None


Outcome = frozenset[int] | Exception | None
"""What became of a part: the ordinals of its batches whose vectors are not stored yet; None if the run of the
job has ended; an exception if the document cannot be cut."""


def look_up(
    conn: Connection, job_ids: Sequence[str]
) -> tuple[Sequence[DocumentToCut], Mapping[str, Exception]]:
    """Return the documents of the jobs that have not ended, and a failure for each whose text is gone."""
    going = [job for job in jobs.get_many(conn, job_ids).values() if not job.status.terminal]
    generation_ids = [job.generation_id for job in going]
    generations = generation_records.generations_by_id(conn, generation_ids)
    beginnings = segments.first_of(conn, generation_ids)
    found: list[DocumentToCut] = []
    gone: dict[str, Exception] = {}
    for job in going:
        generation = generations.get(job.generation_id)
        if generation is None:
            gone[job.job_id] = Permanent(f"job {job.job_id}: its document's text is gone: submit it again")
        else:
            found.append(DocumentToCut(job, generation, beginnings.get(job.generation_id)))
    return found, gone


def record(conn: Connection, parts: Sequence[Part], now: float) -> Mapping[str, Outcome]:
    """Write the parts, each of another job, and return what became of them, by job id.

    The chunks of a part are counted once, however often the part is written. The last part of a document also
    writes its job's size; if all of its batches are stored already, it completes the job too.
    """
    current = jobs.lock_many(conn, [part.document.job_id for part in parts])
    outcomes: dict[str, Outcome] = {part.document.job_id: None for part in parts}
    going = [part for part in parts if _still_wanted(part, current)]
    going = _without_other_cuts(conn, going, outcomes, now)
    chunks.add(conn, [_rows(part) for part in going])
    made = {part.document.job_id: [cut.batch for cut in part.batches] for part in going}
    outcomes |= {
        job_id: frozenset(batch.ordinal for batch in left) for job_id, left in batches.add(conn, made).items()
    }
    _write_accounts(conn, going)
    ends = [JobEnd(part.document.job_id, part.end.chunks, part.end.coverage) for part in going if part.end]
    broken = job_completion.seal(conn, ends, now)
    outcomes |= broken
    # A sealed job is past its chunking.
    sealed = {end.job_id for end in ends}.difference(broken)
    jobs.start_chunking(conn, [job_id for job_id in made if job_id not in sealed], now)
    # If every batch of a job is stored already, no storage task will come to finish it.
    publish_done(conn, [current[end.job_id] for end in ends if outcomes[end.job_id] == frozenset()], now)
    return outcomes


def _write_accounts(conn: Connection, parts: Sequence[Part]) -> None:
    """Record what the cut has added to the accounts of documents that are cut to their end."""
    ended = [(part.document.generation, part.end.account) for part in parts if part.end is not None]
    changed = {one.generation_id: new for one, new in ended if new.written() != one.written_account}
    generation_records.set_accounts(conn, changed)


def _still_wanted(part: Part, current: Mapping[str, Job]) -> bool:
    job = current.get(part.document.job_id)
    return job is not None and not job.status.terminal and job.run == part.document.job.run


def _without_other_cuts(
    conn: Connection, parts: Sequence[Part], outcomes: dict[str, Outcome], now: float
) -> list[Part]:
    """Drop what another release has begun to cut, as one generation must not mix two cuts.

    Return the parts to write. If readers see the chunks of the other cut, they cannot be dropped: that is an
    outcome.
    """
    other = [part for part in parts if part.is_first and _is_other_cut(part.document.generation)]
    if not other:
        return list(parts)
    # Look again under the lock: another delivery of the task may have dropped that cut and begun its own.
    ids = [part.document.generation.generation_id for part in other]
    generations = generation_records.generations_by_id(conn, ids)
    for part in other:
        job_id = part.document.job_id
        generation = generations[part.document.generation.generation_id]
        if generation.state is GenerationState.LIVE:
            outcomes[job_id] = Permanent(
                f"job {job_id}: its document was cut by another release: delete it and submit it again"
            )
        elif _is_other_cut(generation):
            if generation.cut_elsewhere:
                _leave_vectors_to_deletion(conn, generation)
            chunks.drop(conn, [generation.generation_id])
            jobs.restart_partition(conn, job_id, now)
            generation_records.set_chunker_version(conn, generation.generation_id, PARTITION_VERSION)
    return [part for part in parts if outcomes[part.document.job_id] is None]


def _is_other_cut(generation: Generation) -> bool:
    return generation.chunker_version != PARTITION_VERSION


def _leave_vectors_to_deletion(conn: Connection, generation: Generation) -> None:
    """Have all vectors of these chunks deleted. An adoption may have written some and then ended."""
    (rows,) = chunks.between(conn, [(generation.generation_id, 0, chunks.ALL_CHUNKS)])
    chunks.record_for_deletion(conn, [(generation, [row.chunk_id for row in rows])], {})
    document_cleanup.request_cleanup(conn, [generation.document_id])


def _rows(part: Part) -> tuple[str, int, list[ChunkRow]]:
    """Return the document, the generation and the chunks of the part."""
    job = part.document.job
    return job.document_id, job.generation_id, [row for cut in part.batches for row in cut.rows]
