"""A job as callers see it, put together from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from embedfleet.queue_schemas import CharRange, JobInfo, JobProgress
from embedfleet.records import dead_letters, documents
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job


def job_info(conn: Connection, job: Job) -> JobInfo:
    return job_infos(conn, [job])[0]


def job_infos(conn: Connection, found: Sequence[Job]) -> list[JobInfo]:
    """One query for the versions of all jobs; dead letters only of those that have some."""
    made = documents.generations_by_id(conn, [job.generation_id for job in found])
    return [
        _describe(
            job,
            made.get(job.generation_id),
            dead_letters.of_job(conn, job.job_id) if job.chunks_dead else [],
        )
        for job in found
    ]


def _describe(job: Job, made: documents.Generation | None, letters: Sequence[DeadLetter]) -> JobInfo:
    return JobInfo(
        job_id=job.job_id,
        tenant=job.tenant,
        media_id=made.media_id if made else "",
        source=made.source if made else None,
        status=job.status,
        reason=job.reason,
        priority=job.priority,
        user_tier=job.user_tier,
        model=made.collection.model if made else "",
        generation=made.number if made else 0,
        chars=made.recipe.chars if made else 0,
        progress=JobProgress(
            chunks_total=job.chunks_total,
            chunks_embedded=job.chunks_embedded,
            chunks_stored=job.chunks_stored,
            chunks_reused=job.chunks_reused,
            chunks_dead=job.chunks_dead,
            sealed=job.sealed,
        ),
        coverage=job.coverage,
        missing=tuple(
            CharRange(start=letter.start, end=letter.end)
            for letter in letters
            if letter.start is not None and letter.end is not None
        ),
        created_at=_when(job.created_at),
        started_at=None if job.started_at is None else _when(job.started_at),
        finished_at=None if job.finished_at is None else _when(job.finished_at),
    )


def _when(instant: float) -> datetime:
    return datetime.fromtimestamp(instant, UTC)
