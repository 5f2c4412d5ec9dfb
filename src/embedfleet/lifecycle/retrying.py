"""Runs an ended job again. The vectors that it stored are kept; the chunks that failed are tried again.

The caller holds the job's lock (`jobs.lock`), so the job cannot change between the checks and the new run.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import dead_letters, documents, generations, job_completion, jobs, model_switches
from embedfleet.records.jobs import Job
from embedfleet.sql.states import GenerationState


def retry(conn: Connection, job: Job, now: float) -> None:
    """Make an ended job pending again, as its next run.

    Raises InvalidRequest if the job has not ended or has nothing left to do, if its document was deleted or
    has a newer generation, or if its file could not be read.
    """
    newest = _newest_generation(conn, job)
    if newest.state is GenerationState.RETIRED:
        # The vectors of a retired generation may be deleted already. So cut the document again, and look up
        # each chunk.
        jobs.restart_partition(conn, job.job_id, now)
        generations.set_generation_state(conn, [job.generation_id], GenerationState.BUILDING)
    job_completion.reopen(conn, job.job_id, now)


def requeue(conn: Connection, job: Job, dead_letter_ids: Sequence[int], now: float) -> None:
    """Retry the job because of these dead letters, or because of any open one if no ids are given.

    Raises InvalidRequest as `retry` does, and if none of the letters is left to requeue.
    """
    if not dead_letters.any_to_requeue(conn, job.job_id, dead_letter_ids):
        raise InvalidRequest(f"job {job.job_id}: no dead letter is left to requeue")
    retry(conn, job, now)


def _newest_generation(conn: Connection, job: Job) -> generations.Generation:
    """Return the job's generation, the newest of its document. Raises InvalidRequest as `retry` does."""
    job_id = job.job_id
    if not job.status.terminal:
        raise InvalidRequest(f"job {job_id} is still {job.status}: wait for it or cancel it first")
    if job.status is JobStatus.COMPLETED:
        raise InvalidRequest(f"job {job_id} is completed: there is nothing to retry")
    if documents.is_deleted(conn, job.document_id):
        raise InvalidRequest(f"job {job_id}: its document was deleted: submit it again if it is wanted")
    newest = _newest_beside_none(conn, job)
    if newest is None or newest.generation_id != job.generation_id:
        raise InvalidRequest(f"job {job_id}: a newer version of its document was submitted")
    if newest.unreadable:
        raise InvalidRequest(f"job {job_id}: its file could not be read: mend it and ingest it again")
    return newest


def _newest_beside_none(conn: Connection, job: Job) -> generations.Generation | None:
    """Return the newest generation of the job's document that is the job's own or would replace it.

    While the tenant is switched to another model, each of the two spaces has generations of its own.
    """
    made = generations.generations_of(conn, job.document_id)
    switch = model_switches.running_of(conn, [job.tenant]).get(job.tenant)
    mine = next((one for one in made if one.generation_id == job.generation_id), None)
    beside = None if switch is None or mine is None else switch.beside(mine.collection)
    return next((one for one in made if one.collection != beside), None)
