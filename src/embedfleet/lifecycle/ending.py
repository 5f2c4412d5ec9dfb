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
from embedfleet.records import (
    chunks,
    dead_letters,
    document_cleanup,
    documents,
    generations,
    job_completion,
    jobs,
    receipts,
    traces,
)
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.records.receipts import Findings, NewReceipt


def cancel(conn: Connection, job: Job, now: float) -> bool:
    """End an unfinished job because its tenant or an operator asks for it. Return False if it had ended."""
    if not _end(conn, [job.job_id], JobStatus.CANCELLED, jobs.CANCELLED, now):
        return False
    _end_twins_of(conn, [job], now)
    leave_rest_to_cleanup(conn, [job.document_id])
    return True


def give_up(conn: Connection, job: Job, letter: DeadLetter, now: float) -> bool:
    """Fail an unfinished job as a whole, with a dead letter that says why. Return False if it had ended."""
    if not _end(conn, [job.job_id], JobStatus.FAILED, letter.reason, now):
        return False
    dead_letters.add(conn, {job.job_id: [letter]}, now)
    _end_twins_of(conn, [job], now)
    leave_rest_to_cleanup(conn, [job.document_id])
    return True


def end_twins_of(conn: Connection, failed: Sequence[Job], now: float) -> None:
    """End what a switch to another model makes beside these jobs, which have just failed."""
    if _end_twins_of(conn, failed, now):
        leave_rest_to_cleanup(conn, [job.document_id for job in failed])


def supersede(conn: Connection, older: Sequence[str], now: float) -> None:
    """End the unfinished jobs with these ids, because newer generations of their documents are submitted."""
    _end(conn, older, JobStatus.CANCELLED, "superseded", now)


def delete_documents(conn: Connection, document_ids: Sequence[str], now: float) -> dict[str, str]:
    """Hide documents from readers, end their unfinished jobs, and request the deletion of all they have.

    Return the ids of the receipts, by document id: a receipt tells when nothing is left. Documents that there
    are not, and those that are deleted already, are left out and not changed. The number of statements does
    not grow with the number of documents.
    """
    names = documents.names_of(conn, document_ids)
    # Before the change: a receipt says what there was.
    keys = traces.keys_of_documents(conn, {document: name.media_id for document, name in names.items()})
    held = traces.rows_of_documents(conn, list(keys.values()))
    hide(conn, list(names), now)
    return receipts.add(
        conn,
        [
            NewReceipt(
                name.tenant,
                name.media_id,
                document_id,
                Findings(
                    since=name.created_at,
                    held=held[document_id],
                    job_ids=keys[document_id].job_ids,
                    generation_ids=keys[document_id].generation_ids,
                ),
            )
            for document_id, name in names.items()
        ],
        now,
    )


def hide(conn: Connection, document_ids: Sequence[str], now: float) -> None:
    """Do all of `delete_documents` but the receipts, for documents that are there."""
    unfinished = jobs.unfinished_of_documents(conn, document_ids)
    job_ids = [job.job_id for some in unfinished.values() for job in some]
    _end(conn, job_ids, JobStatus.CANCELLED, "document deleted", now)
    document_cleanup.mark_deleted(conn, document_ids, now)
    # This must come after all generations are retired: only then does none of them need its vectors.
    leave_rest_to_cleanup(conn, document_ids)


def leave_rest_to_cleanup(conn: Connection, document_ids: Sequence[str]) -> None:
    """Mark the vectors of the documents that no generation needs, and request cleanups that delete them."""
    # Both are one transaction: the deletion task that the request brings finds the marks.
    chunks.mark_unreferenced(conn, document_ids)
    document_cleanup.request_cleanup(conn, document_ids)


def _end_twins_of(conn: Connection, ended: Sequence[Job], now: float) -> bool:
    """A version is not shown in the other space of a switch if it is not in its own. Return whether any was.

    The switch embeds the version that readers see again.
    """
    submitted = [job.document_id for job in ended if job.switch_id is None]
    unfinished = jobs.unfinished_of_documents(conn, submitted)
    twins = [job.job_id for some in unfinished.values() for job in some if job.switch_id is not None]
    return _end(conn, twins, JobStatus.CANCELLED, "superseded", now)


def _end(conn: Connection, job_ids: Sequence[str], status: JobStatus, reason: str, now: float) -> bool:
    """Give the jobs their final status, and retire their generations unless readers see them.

    Jobs that had ended before are left alone. Return False if all had.
    """
    ended = job_completion.finish(conn, job_ids, status, reason=reason, now=now)
    generations.abandon(conn, list(ended.values()))
    return bool(ended)
