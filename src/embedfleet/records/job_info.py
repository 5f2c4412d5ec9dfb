"""Builds `JobInfo`, the description of a job that callers get, from the rows of several tables."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.account import NOTHING_SAID
from embedfleet.clock import utc
from embedfleet.queue_schemas import CharRange, JobInfo, JobProgress, JobStatus
from embedfleet.records import dead_letters
from embedfleet.records import generations as generation_records
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job

_WITH_COVERAGE = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)


def job_info(conn: Connection, job: Job) -> JobInfo:
    """Return the description of one job."""
    return job_infos(conn, [job])[0]


def progress_of(job: Job) -> JobProgress:
    """Return the chunk counters of the job."""
    return JobProgress(
        chunks_total=job.chunks_total,
        chunks_embedded=job.chunks_embedded,
        chunks_stored=job.chunks_stored,
        chunks_reused=job.chunks_reused,
        chunks_dead=job.chunks_dead,
        sealed=job.sealed,
    )


def job_infos(conn: Connection, found: Sequence[Job]) -> list[JobInfo]:
    """Return the description of each job, in order.

    One query reads the generations of all jobs. One more reads the dead letters of jobs with dead chunks.
    """
    generations = generation_records.generations_by_id(conn, [job.generation_id for job in found])
    letters = dead_letters.of_jobs(conn, [job.job_id for job in found if job.chunks_dead])
    return [_describe(job, generations.get(job.generation_id), letters.get(job.job_id, [])) for job in found]


def _describe(
    job: Job, generation: generation_records.Generation | None, letters: Sequence[DeadLetter]
) -> JobInfo:
    return JobInfo(
        job_id=job.job_id,
        tenant=job.tenant,
        media_id=generation.media_id if generation else "",
        source=generation.source if generation else None,
        status=job.status,
        reason=job.reason,
        priority=job.priority,
        user_tier=job.user_tier,
        model=generation.collection.model if generation else "",
        route=job.route,
        generation=generation.number if generation else 0,
        chars=generation.recipe.chars if generation else 0,
        progress=progress_of(job),
        # The share is known once all of the text is cut, but holds only for a version that readers see.
        coverage=job.coverage if job.status in _WITH_COVERAGE else None,
        account=generation.account if generation else NOTHING_SAID,
        missing=tuple(
            CharRange(start=letter.start, end=letter.end)
            for letter in letters
            if letter.start is not None and letter.end is not None
        ),
        created_at=utc(job.created_at),
        started_at=None if job.started_at is None else utc(job.started_at),
        finished_at=None if job.finished_at is None else utc(job.finished_at),
    )
