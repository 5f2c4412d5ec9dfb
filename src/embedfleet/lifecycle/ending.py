"""How a job ends without success: cancelled, given up, superseded, or because its document is deleted.

Every such end does the same two things in one transaction: the job gets its final status, and the version it
was making is retired. What the version left in the vector store goes once a cleanup is requested: cancelling,
giving up and deleting request one here. Superseding does not: the newer version may take over vectors of the
older one, so the end of the newer version's own job requests the cleanup. Where the newer version is one that
readers see already, there is no such job, and admission requests it.

Each function changes rows of one document, whose lock the caller holds (`jobs.lock`, `document_lock`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.queue_schemas import JobStatus
from embedfleet.records import chunks, dead_letters, documents, jobs
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job


def cancel(conn: Connection, job: Job, now: float) -> bool:
    """End an unfinished job because its tenant or an operator asks for it. False if it had ended before."""
    if not _end(conn, job, JobStatus.CANCELLED, "cancelled", now):
        return False
    leave_rest_to_cleanup(conn, job.document_id)
    return True


def give_up(conn: Connection, job: Job, letter: DeadLetter, now: float) -> bool:
    """Fail an unfinished job as a whole, with a dead letter that says why. False if it had ended before."""
    if not _end(conn, job, JobStatus.FAILED, letter.reason, now):
        return False
    dead_letters.add(conn, job.job_id, [letter], now)
    leave_rest_to_cleanup(conn, job.document_id)
    return True


def supersede(conn: Connection, older: Sequence[Job], now: float) -> None:
    """End a document's unfinished jobs because a newer version of it is submitted."""
    for job in older:
        _end(conn, job, JobStatus.CANCELLED, "superseded", now)


def delete_document(conn: Connection, document_id: str, now: float) -> bool:
    """Hide a document from readers, end its unfinished jobs and have everything of it deleted.

    False, and nothing changes, if there is no such document or it is deleted already.
    """
    if not documents.generations_of(conn, document_id) or documents.is_deleted(conn, document_id):
        return False
    for job in jobs.unfinished_of_document(conn, document_id):
        _end(conn, job, JobStatus.CANCELLED, "document deleted", now)
    documents.mark_deleted(conn, document_id, now)
    # After every version is retired: only then is none of the vectors referred to.
    leave_rest_to_cleanup(conn, document_id)
    return True


def leave_rest_to_cleanup(conn: Connection, document_id: str) -> None:
    """Mark the document's vectors that no version needs, and ask for a deletion task that removes them."""
    # Marked before the request commits: the deletion task that it brings finds the marks.
    chunks.mark_unreferenced(conn, document_id)
    documents.request_cleanup(conn, document_id)


def _end(conn: Connection, job: Job, status: JobStatus, reason: str, now: float) -> bool:
    """Give the job its final status; retire its version, unless readers see it. False if it had ended."""
    if not jobs.finish(conn, job.job_id, status, reason=reason, now=now):
        return False
    documents.abandon(conn, job.generation_id)
    return True
