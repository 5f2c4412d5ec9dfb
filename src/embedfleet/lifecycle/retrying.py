"""How an ended job is run again. What it stored is kept, what failed is done once more.

Both functions need the job locked (`jobs.lock`), so the job cannot change between the checks and the new run.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import dead_letters, documents, jobs
from embedfleet.records.jobs import Job
from embedfleet.sql.tables import GenerationState


def retry(conn: Connection, job: Job, now: float) -> None:
    """Make an ended job pending again, as its next run.

    Raises InvalidRequest if it has not ended, has nothing left to do, if its document was deleted or has a
    newer version, or if its file could not be read.
    """
    newest = _newest_version(conn, job)
    if newest.state is GenerationState.RETIRED:
        # A retired version's vectors may be deleted already: cut the document again and look at each chunk.
        jobs.restart_partition(conn, job.job_id, now)
        documents.set_generation_state(conn, job.generation_id, GenerationState.BUILDING)
    jobs.reopen(conn, job.job_id, now)


def requeue(conn: Connection, job: Job, dead_letter_ids: Sequence[int], now: float) -> None:
    """`retry` on account of these dead letters of the job, or without ids of any that is open.

    Raises InvalidRequest also if all of them were requeued before.
    """
    if not dead_letters.any_to_requeue(conn, job.job_id, dead_letter_ids):
        raise InvalidRequest(f"job {job.job_id}: no dead letter is left to requeue")
    retry(conn, job, now)


def _newest_version(conn: Connection, job: Job) -> documents.Generation:
    """The version that the job is to make, which must be its document's newest. Raises InvalidRequest."""
    job_id = job.job_id
    if not job.status.terminal:
        raise InvalidRequest(f"job {job_id} is still {job.status}: wait for it or cancel it first")
    if job.status is JobStatus.COMPLETED:
        raise InvalidRequest(f"job {job_id} is completed: there is nothing to retry")
    if documents.is_deleted(conn, job.document_id):
        raise InvalidRequest(f"job {job_id}: its document was deleted: submit it again if it is wanted")
    versions = documents.generations_of(conn, job.document_id)
    if not versions or versions[0].generation_id != job.generation_id:
        raise InvalidRequest(f"job {job_id}: a newer version of its document was submitted")
    if versions[0].unreadable:
        raise InvalidRequest(f"job {job_id}: its file could not be read: mend it and ingest it again")
    return versions[0]
