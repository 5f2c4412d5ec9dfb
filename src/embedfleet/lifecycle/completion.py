"""Completes jobs: counts their batches, and after the last one shows the generation to readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from embedfleet.lifecycle import ending
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import (
    batches,
    chunks,
    dead_letters,
    generations,
    job_completion,
    jobs,
    model_switches,
)
from embedfleet.records.batches import Batch, StoredBatch, batches_of
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.sql.database import Database


def publish_done(conn: Connection, candidates: Sequence[Job], now: float) -> None:
    """Finish the jobs in which nothing is left to do, and show their generations to readers, in one unit.

    Of all calls for one run of a job, exactly one does this. If no chunk of a job could be stored, readers
    keep the generation before. While a switch to another model is under way, a job and its twin may wait for
    each other; then both end in the unit of the later one. The jobs must be locked (`jobs.lock`).
    """
    submitted = {job.job_id: job for job in candidates if job.switch_id is None}
    twins = {job.job_id: job for job in candidates if job.switch_id is not None}
    if twins:
        submitted |= _done(conn, twins.values(), of_switches=False)
    ended, failed = _publish(conn, list(submitted.values()), now)
    is_switched = bool(ended or twins) and model_switches.any_running(conn)
    if ended and is_switched:
        ending.end_twins_of(conn, failed, now)
        twins |= _done(conn, ended, of_switches=True)
    with_them, _ = _publish(conn, list(twins.values()), now)
    if is_switched:
        # After both, so that a pair that is shown in this unit counts as one in both spaces.
        model_switches.record_divergences(conn, [job.generation_id for job in (*ended, *with_them)])


def _done(conn: Connection, beside: Iterable[Job], *, of_switches: bool) -> dict[str, Job]:
    """Return the jobs of the same documents that are done and have not ended, by id."""
    found = jobs.done_of_documents(conn, [job.document_id for job in beside])
    return {job_id: job for job_id, job in found.items() if (job.switch_id is not None) == of_switches}


def _publish(conn: Connection, candidates: Sequence[Job], now: float) -> tuple[Sequence[Job], Sequence[Job]]:
    """Finish those of the jobs that are done and wait for none. Return these, and those that have failed."""
    status_of = job_completion.complete_done(conn, [job.job_id for job in candidates], now)
    if not status_of:  # not done yet, or other calls have completed them
        return (), ()
    ended = [job for job in candidates if job.job_id in status_of]
    failed = [job for job in ended if status_of[job.job_id] is JobStatus.FAILED]
    good = [job for job in ended if job not in failed]
    generations.abandon(conn, [job.generation_id for job in failed])
    # Sorted, so that of two generations of a document the newer one replaces the older. Ids grow.
    made = sorted((job.generation_id, job.document_id) for job in good)
    shown = generations.mark_live(conn, [(document_id, generation_id) for generation_id, document_id in made])
    maker_of = {job.document_id: job.job_id for job in sorted(good, key=lambda job: job.generation_id)}
    dead_letters.mark_replaced(conn, {name: maker_of[name] for name in shown.replacing}, now)
    # A first generation that is live now replaces nothing and leaves nothing to clean up.
    not_live = [name for name in maker_of if name not in shown.shown]
    left = [*(job.document_id for job in failed), *sorted(shown.replacing), *not_live]
    ending.leave_rest_to_cleanup(conn, left)
    return ended, failed


def settle_batch(conn: Connection, job: Job, batch: Batch, *, reused: int, now: float) -> None:
    """Count the batch as stored if each of its chunks is stored or has a dead letter.

    So a batch that was divided is counted when its last part is settled. The job must be locked.
    """
    (rows,) = chunks.between(conn, [(job.generation_id, batch.first_chunk, batch.chunks)])
    dead = dead_letters.of_batch(conn, job.job_id, batch.ordinal)
    settled = chunks.ids_stored(conn, [row.chunk_id for row in rows])
    lost = {letter.chunk_index for letter in dead}
    if all(row.chunk_id in settled or row.chunk_index in lost for row in rows):
        batches.record_stored(conn, [StoredBatch(job.job_id, batch.ordinal, reused, dead)], now)


async def give_up_batch(database: Database, lease: Lease, reason: str, now: float) -> None:
    """Record a dead letter for every chunk of the task that has no vector.

    The task is a whole batch or a part of one. The job goes on without these chunks. Nothing is recorded if
    the run of the job has ended.
    """
    job_id = lease.task.job_id
    named = BatchId.parse(lease.task.id)  # not from the payload, which may be unreadable

    def record(conn: Connection) -> None:
        job = jobs.lock(conn, job_id)
        batch = batches_of(conn, job_id, [named.ordinal]).get(named.ordinal)
        if job is None or not named.wanted_by(job) or batch is None:
            return
        first, past = named.span or (0, batch.chunks)
        (rows,) = chunks.between(conn, [(job.generation_id, batch.first_chunk + first, past - first)])
        there = chunks.ids_stored(conn, [row.chunk_id for row in rows])
        dead = [
            DeadLetter(lease.stage, reason, named.ordinal, row.chunk_index, row.start, row.end)
            for row in rows
            if row.chunk_id not in there
        ]
        dead_letters.add(conn, {job_id: dead}, now)
        settle_batch(conn, job, batch, reused=len(rows) - len(dead), now=now)
        publish_done(conn, [job], now)

    await database.write(record)
