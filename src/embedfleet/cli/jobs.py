"""`embedfleet jobs list|show|cancel|retry`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AnyTenant, AsJson
from embedfleet.cli.output import print_json, say, say_fields, say_table
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_jobs

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Jobs
    from embedfleet.queue_schemas import JobInfo

app = typer.Typer(help="Where is my document? List, show, cancel and retry jobs.", no_args_is_help=True)
JobId = Annotated[
    str, typer.Argument(help="A job's id, as `jobs list` shows it, or a start of it that no other job has.")
]


class StatusFilter(StrEnum):
    """The values of JobStatus (not imported here, as that would slow down `--help`)."""

    PENDING = "pending"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORING = "storing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command("list")
@somewhere
def list_jobs(
    place: Place,
    tenant: AnyTenant = None,
    status: Annotated[StatusFilter | None, typer.Option("--status", help="Only those.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    from embedfleet.queue_schemas import JobStatus

    wanted = None if status is None else JobStatus(status.value)
    found = with_jobs(place, tenant, lambda jobs: jobs.list_jobs(status=wanted, limit=limit))
    if as_json:
        print_json({"jobs": [job.json_document() for job in found]})
        return
    _show_table(found)


@app.command("show")
@somewhere
def show(place: Place, job_id: JobId, as_json: AsJson = False) -> None:
    """Everything known about one job."""

    async def look(jobs: Jobs) -> JobInfo:
        return await jobs.status(await jobs.find_job_id(job_id))

    job = with_jobs(place, None, look)
    if as_json:
        print_json({"job": job.json_document()})
        return
    say_fields(job.model_dump(by_alias=True, exclude={"account"}), job.account)


@app.command("cancel")
@somewhere
def cancel(place: Place, job_id: JobId, as_json: AsJson = False) -> None:
    """End an unfinished job. What could be searched before stays searchable."""

    async def act(jobs: Jobs) -> tuple[str, bool]:
        found = await jobs.find_job_id(job_id)
        return found, await jobs.cancel(found)

    job_id, cancelled = with_jobs(place, None, act)
    if as_json:
        print_json({"job_id": job_id, "cancelled": cancelled})
    else:
        say(f"{job_id} cancelled" if cancelled else f"{job_id} had ended already")


@app.command("retry")
@somewhere
def retry(place: Place, job_id: JobId, as_json: AsJson = False) -> None:
    """Run a failed, cancelled or incomplete job again. A running orchestrator (or the next) takes it up."""

    async def act(jobs: Jobs) -> str:
        found = await jobs.find_job_id(job_id)
        await jobs.retry(found)
        return found

    job_id = with_jobs(place, None, act)
    if as_json:
        print_json({"job_id": job_id, "status": "pending"})
    else:
        say(f"{job_id} is pending again")


def _show_table(found: list[JobInfo]) -> None:
    say_table(("job", "tenant", "status", "chunks", "source"), map(_cells, found))


def _cells(job: JobInfo) -> tuple[str, ...]:
    progress = job.progress
    total = f"{progress.chunks_total}{'' if progress.sealed else '+'}"
    return (
        job.job_id,
        job.tenant,
        job.status.value + (f" ({job.reason})" if job.reason else ""),
        f"{progress.chunks_stored}/{total}",
        job.source or job.media_id,
    )
