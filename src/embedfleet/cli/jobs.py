"""`embedfleet jobs list|show|cancel|retry`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, Tenant, settings_from
from embedfleet.cli.output import print_json

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.job_manager import EmbeddingJobManager
    from embedfleet.queue_schemas import JobInfo

T = TypeVar("T")
app = typer.Typer(help="Where is my document? List, show, cancel and retry jobs.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(help="A job's id, as `jobs list` shows it.")]


class StatusFilter(StrEnum):
    """The values of JobStatus (not imported here: it would cost `--help` its speed)."""

    PENDING = "pending"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORING = "storing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command("list")
def list_jobs(
    tenant: Tenant = None,
    status: Annotated[StatusFilter | None, typer.Option("--status", help="Only those.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Jobs, newest first (of every tenant unless one is named)."""
    from embedfleet.queue_schemas import JobStatus

    wanted = None if status is None else JobStatus(status.value)
    found = _with_jobs(
        data_dir, config, lambda jobs: jobs.list_jobs(user_id=tenant, status=wanted, limit=limit)
    )
    if as_json:
        print_json({"jobs": [job.json_document() for job in found]})
        return
    _show_table(found)


@app.command("show")
def show(job_id: JobId, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Everything known about one job."""
    job = _with_jobs(data_dir, config, lambda jobs: jobs.get_job_status(job_id))
    if as_json:
        print_json({"job": job.json_document()})
        return
    for name, value in job.json_document().items():
        if name != "schema_version":
            typer.echo(f"{name:<12} {_readable(value)}")


@app.command("cancel")
def cancel(
    job_id: JobId, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """End an unfinished job. What could be searched before stays searchable."""
    cancelled = _with_jobs(data_dir, config, lambda jobs: jobs.cancel_job(job_id))
    if as_json:
        print_json({"job_id": job_id, "cancelled": cancelled})
    else:
        typer.echo(f"{job_id} cancelled" if cancelled else f"{job_id} had ended already")


@app.command("retry")
def retry(
    job_id: JobId, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """Run a failed, cancelled or incomplete job again. A running orchestrator (or the next) takes it up."""
    _with_jobs(data_dir, config, lambda jobs: jobs.retry_job(job_id))
    if as_json:
        print_json({"job_id": job_id, "status": "pending"})
    else:
        typer.echo(f"{job_id} is pending again")


def _with_jobs(
    data_dir: Path | None,
    config: Path | None,
    act: Callable[[EmbeddingJobManager], Awaitable[T]],
) -> T:
    from embedfleet.bootstrap import open_guest

    async def run() -> T:
        async with open_guest(settings_from(data_dir, config)) as guest:
            return await act(guest.jobs)

    return asyncio.run(run())


def _show_table(found: list[JobInfo]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("job", "tenant", "status", "chunks", "source"):
        table.add_column(column, overflow="fold")
    for job in found:
        progress = job.progress
        total = f"{progress.chunks_total}{'' if progress.sealed else '+'}"
        table.add_row(
            job.job_id,
            job.tenant_id,
            job.status.value + (f" ({job.reason})" if job.reason else ""),
            f"{progress.chunks_stored}/{total}",
            job.source or job.media_id,
        )
    Console().print(table)


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return "-" if value is None or value == [] else str(value)
