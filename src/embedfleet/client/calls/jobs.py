"""Jobs: submit texts, look, list, wait, cancel, run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any

from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import entries, instant, record, segment
from embedfleet.client.steps import Ask, Steps
from embedfleet.errors import Remedy, UnknownJob
from embedfleet.paging import pages
from embedfleet.queue_schemas import (
    ChunkingConfig,
    ContentType,
    ContentTypeName,
    JobInfo,
    JobStatus,
    JobTotals,
    Requeued,
)
from embedfleet.records.cursors import Page

_MOST = 1_000  # jobs that one request may name
# The server answers after this time at the latest, so that no balancer cuts a silent request.
_WAIT_SECONDS = 25.0


def create_job(
    *,
    media_id: int | str,
    content: str,
    content_type: ContentType | ContentTypeName = "text",
    chunking_config: ChunkingConfig | None = None,
    priority: int = 50,
    model: str | None = None,
    source: str | None = None,
    source_hash: str | None = None,
    title: str | None = None,
    strict: bool = False,
    metadata: dict[str, Any] | None = None,
) -> Steps[str]:
    """Submit one version of a document as a text, and return the job's id.

    The job is durable on return. It is submitted once, however often the request must be sent. The contract
    is that of `EmbeddingJobManager.create_job`.
    """
    said = {
        "media_id": media_id,
        "content": content,
        "content_type": content_type,
        "chunking_config": None if chunking_config is None else chunking_config.model_dump(mode="json"),
        "priority": priority,
        "model": model,
        "source": source,
        "source_hash": source_hash,
        "title": title,
        "strict": strict,
        "metadata": metadata,
    }
    known = {name: one for name, one in said.items() if one is not None}
    response = yield Ask("POST", "/v1/jobs", json=known).once()
    job_id: str = response.json()["job_id"]
    return job_id


def status(job_id: str) -> Steps[JobInfo]:
    """Return the present state of the job. Raises UnknownJob."""
    return record(JobInfo, (yield Ask("GET", f"/v1/jobs/{segment(job_id)}")))


def find_job_id(start: str) -> Steps[str]:
    """Return the id of the only job whose id starts with this text.

    Raises UnknownJob if there is no such job, InvalidRequest if there are several.
    """
    response = yield Ask("POST", "/v1/jobs:find", json={"start": start})
    job_id: str = response.json()["job_id"]
    return job_id


def list_jobs(
    *,
    status: JobStatus | None = None,
    media_id: str | None = None,
    created_from: datetime | None = None,
    created_before: datetime | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Steps[Page[JobInfo]]:
    """Return up to `limit` jobs, newest first.

    For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
    """
    params = {
        "status": status,
        "media_id": media_id,
        "created_from": instant(created_from),
        "created_before": instant(created_before),
    }
    return (yield from listed(JobInfo, "/v1/jobs", "jobs", limit=limit, after=after, params=params))


def statuses(job_ids: Sequence[str]) -> Steps[list[JobInfo]]:
    """Return the states of those jobs that exist, in any order."""
    return (yield from _states(job_ids, 0.0))


def _states(job_ids: Sequence[str], timeout_seconds: float) -> Steps[list[JobInfo]]:
    """Return the states of those jobs that exist: when all have ended, or the time is over.

    If one does not exist, it returns at once.
    """
    found: list[JobInfo] = []
    for some in pages(job_ids, _MOST):
        body = {"job_ids": list(some), "timeout_seconds": timeout_seconds}
        ask = Ask("POST", "/v1/jobs:wait", json=body, repeats=True, patience_seconds=timeout_seconds)
        found += entries(JobInfo, (yield ask), "jobs")
    return found


def wait(job_id: str, *, timeout_seconds: float | None = None) -> Steps[JobInfo]:
    """Return when the job has ended. Raises TimeoutError as `wait_many` does, UnknownJob."""
    ended = yield from wait_many([job_id], timeout_seconds=timeout_seconds)
    if job_id not in ended:
        raise _unknown(job_id)
    return ended[job_id]


def wait_many(job_ids: Iterable[str], *, timeout_seconds: float | None = None) -> Steps[dict[str, JobInfo]]:
    """Return when all of these jobs have ended: how each ended, by job id, in the given order.

    A job that is dropped during the wait, because its document was deleted, is left out. Raises TimeoutError,
    which names a job that has not ended; the jobs go on. Raises UnknownJob if any job does not exist when the
    wait begins.
    """
    wanted = list(dict.fromkeys(job_ids))
    end = None if timeout_seconds is None else monotonic() + timeout_seconds
    found = {info.job_id: info for info in (yield from _states(wanted, _left(end, len(wanted))))}
    for job_id in wanted:
        if job_id not in found:
            raise _unknown(job_id)
    while unfinished := [info for info in found.values() if not info.status.terminal]:
        if end is not None and end <= monotonic():
            raise TimeoutError(_why_not_ended(unfinished, timeout_seconds or 0.0))
        asked = [info.job_id for info in unfinished[:_MOST]]
        now = {info.job_id: info for info in (yield from _states(asked, _left(end, len(asked))))}
        dropped = set(asked) - now.keys()
        found = {name: now.get(name, info) for name, info in found.items() if name not in dropped}
    return {job_id: found[job_id] for job_id in wanted if job_id in found}


def _left(end: float | None, jobs: int) -> float:
    """Return the seconds that a request about this number of jobs may wait.

    More jobs than a request takes need several, and none of them may hold up the others.
    """
    if jobs > _MOST:
        return 0.0
    return _WAIT_SECONDS if end is None else max(0.0, min(_WAIT_SECONDS, end - monotonic()))


def _why_not_ended(unfinished: Sequence[JobInfo], seconds: float) -> str:
    first = min(unfinished, key=lambda info: info.created_at)
    others = f" ({len(unfinished)} jobs have not ended)" if len(unfinished) > 1 else ""
    waits = "it goes on" if first.waiting_for is None else f"it waits for {first.waiting_for}"
    return f"job {first.job_id} is `{first.status}` after {seconds:g} s: {waits}{others}"


def totals(*, since: datetime) -> Steps[JobTotals]:
    """Return sums over the jobs that were submitted at `since` or later, for a progress bar."""
    return record(JobTotals, (yield Ask("GET", "/v1/jobs:totals", params={"since": instant(since)})))


def cancel(job_id: str) -> Steps[bool]:
    """End an unfinished job. Return False if it had ended already. Raises UnknownJob."""
    response = yield Ask("POST", f"/v1/jobs/{segment(job_id)}/cancel")
    cancelled: bool = response.json()["cancelled"]
    return cancelled


def retry(job_id: str) -> Steps[None]:
    """Run an ended job again. Raises UnknownJob, and InvalidRequest if it cannot run again."""
    yield Ask("POST", f"/v1/jobs/{segment(job_id)}/retry")


def retry_many(job_ids: Sequence[str]) -> Steps[Requeued]:
    """Run these ended jobs again, in one transaction for each thousand. A job that cannot run is named.

    Raises UnknownJob, and then retries none of its thousand.
    """
    done = Requeued(jobs=())
    for some in pages(job_ids, _MOST):
        more = record(Requeued, (yield Ask("POST", "/v1/jobs:retry", json={"job_ids": list(some)})))
        done = Requeued(jobs=done.jobs + more.jobs, refused=done.refused + more.refused)
    return done


def find_jobs(
    sources: Sequence[tuple[str, str]],
    *,
    chunking_config: ChunkingConfig | None = None,
    model: str | None = None,
) -> Steps[list[JobInfo | None]]:
    """Find the jobs of documents that were made from the same source, chunking and model.

    `sources` are pairs of a media id and the hash of its source. The result has one entry for each pair, in
    order. Raises UnknownModel.
    """
    found: list[JobInfo | None] = []
    for some in pages(sources, _MOST):
        body = {
            "sources": [{"media_id": media_id, "source_hash": digest} for media_id, digest in some],
            "chunking_config": None if chunking_config is None else chunking_config.model_dump(mode="json"),
            "model": model,
        }
        response = yield Ask("POST", "/v1/jobs:match", json=body, repeats=True)
        found += [
            None if one is None else JobInfo.model_validate(one, extra="ignore")
            for one in response.json()["jobs"]
        ]
    return found


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"no job `{job_id}`: list the jobs to see which there are", remedy=Remedy.LIST_JOBS)
