"""Ends a job without success: it is cancelled, given up or superseded, or its document is deleted.

Every such end does two things in one transaction: it gives the job its final status, and it retires the
generation that the job was making. A cleanup later removes the vectors of that generation. Who requests the
cleanup depends on the reason:

- A cancel, a failure or a deletion requests it here.
- A superseded job does not: the newer generation may take over its vectors. So the end of the newer job
  requests it.
- If readers see the newer generation already, there is no newer job, and admission requests it.

The caller of each function holds the locks of the documents whose rows it changes (`jobs.lock`,
`document_lock`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.queue_schemas import JobStatus
from embedfleet.records import chunks, dead_letters, documents, jobs, receipts, traces
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.records.receipts import Findings


def cancel(conn: Connection, job: Job, now: float) -> bool:
    """End an unfinished job because its tenant or an operator asks for it. Return False if it had ended."""
    if not _end(conn, [job.job_id], JobStatus.CANCELLED, "cancelled", now):
        return False
    leave_rest_to_cleanup(conn, [job.document_id])
    return True


def give_up(conn: Connection, job: Job, letter: DeadLetter, now: float) -> bool:
    """Fail an unfinished job as a whole, with a dead letter that says why. Return False if it had ended."""
    if not _end(conn, [job.job_id], JobStatus.FAILED, letter.reason, now):
        return False
    dead_letters.add(conn, {job.job_id: [letter]}, now)
    leave_rest_to_cleanup(conn, [job.document_id])
    return True


def supersede(conn: Connection, older: Sequence[str], now: float) -> None:
    """End the unfinished jobs with these ids, because newer generations of their documents are submitted."""
    _end(conn, older, JobStatus.CANCELLED, "superseded", now)


def delete_document(conn: Connection, document_id: str, now: float) -> str | None:
    """Hide a document from readers, end its unfinished jobs, and request the deletion of all it has.

    Return the id of the receipt, which tells when nothing is left. Return None and change nothing if there is
    no such document or it is deleted already.
    """
    name = documents.name_of(conn, document_id)
    if name is None or documents.is_deleted(conn, document_id):
        return None
    # Before the change: the receipt says what there was.
    keys = traces.keys_of_document(conn, name.media_id, document_id)
    findings = Findings(
        since=name.created_at,
        held=traces.rows_of_document(conn, keys),
        job_ids=keys.job_ids,
        generation_ids=keys.generation_ids,
    )
    hide(conn, document_id, now)
    return receipts.add(conn, name.tenant, name.media_id, document_id, findings, now)


def hide(conn: Connection, document_id: str, now: float) -> None:
    """Do all of `delete_document` but the receipt, for a document that is there."""
    unfinished = jobs.unfinished_of_documents(conn, [document_id]).get(document_id, [])
    _end(conn, [job.job_id for job in unfinished], JobStatus.CANCELLED, "document deleted", now)
    documents.mark_deleted(conn, document_id, now)
    # This must come after all generations are retired: only then does none of them need its vectors.
    leave_rest_to_cleanup(conn, [document_id])


def leave_rest_to_cleanup(conn: Connection, document_ids: Sequence[str]) -> None:
    """Mark the vectors of the documents that no generation needs, and request cleanups that delete them."""
    # Both are one transaction: the deletion task that the request brings finds the marks.
    chunks.mark_unreferenced(conn, document_ids)
    documents.request_cleanup(conn, document_ids)


def _end(conn: Connection, job_ids: Sequence[str], status: JobStatus, reason: str, now: float) -> bool:
    """Give the jobs their final status, and retire their generations unless readers see them.

    Jobs that had ended before are left alone. Return False if all had.
    """
    ended = jobs.finish(conn, job_ids, status, reason=reason, now=now)
    documents.abandon(conn, list(ended.values()))
    return bool(ended)
