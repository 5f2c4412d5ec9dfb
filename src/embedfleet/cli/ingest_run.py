"""The work of `embedfleet ingest`: submits files, has workers process them, follows the jobs, reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from embedfleet.bootstrap import open_guest
from embedfleet.cli.ingest_progress import ProgressView
from embedfleet.cli.interrupts import stop_on_signal
from embedfleet.cli.output import with_command
from embedfleet.cli.workers_host import WorkersHost, work_until
from embedfleet.errors import Remedy, StorageFull
from embedfleet.inference.catalogue import Catalogue
from embedfleet.ingest import FileOutcome, FileState, Found, Ingest, IngestOptions, find_files, printable
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import JobInfo, JobStatus
from embedfleet.settings import Settings
from embedfleet.waiting import wait_briefly

_POLL_SECONDS = 0.2  # fast enough for a progress bar


@dataclass(slots=True)
class IngestReport:
    """What became of every file. It is complete even after an interruption."""

    tenant: str
    outcomes: list[FileOutcome] = field(default_factory=list)
    jobs: dict[str, JobInfo] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def problems(self) -> list[tuple[str, str]]:
        """(source, reason) of every file that is not completely searchable."""
        found = [(o.source, o.error) for o in self.outcomes if o.error is not None]
        for outcome, job in self._with_jobs():
            if job.status in (JobStatus.FAILED, JobStatus.COMPLETED_WITH_ERRORS):
                found.append((outcome.source, f"{job.status.value}: {job.reason}"))
            elif job.status is JobStatus.CANCELLED:
                found.append((outcome.source, f"cancelled: {job.reason}"))
        return found

    @property
    def something_done(self) -> bool:
        return any(o.state in (FileState.UNCHANGED, FileState.PRUNED) for o in self.outcomes) or any(
            job.status in (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS) for job in self.jobs.values()
        )

    def count(self, *states: FileState) -> int:
        return sum(1 for outcome in self.outcomes if outcome.state in states)

    def totals(self) -> dict[str, Any]:
        done = [job for _, job in self._with_jobs()]
        reused = sum(job.progress.chunks_reused for job in done)
        return {
            "files": len(self.outcomes) - self.count(FileState.PRUNED),
            "ingested": sum(1 for job in done if job.status is JobStatus.COMPLETED),
            "unchanged": self.count(FileState.UNCHANGED),
            "failed": len(self.problems()),
            "unfinished": sum(1 for job in done if not job.status.terminal),
            "pruned": self.count(FileState.PRUNED),
            "chunks_stored": sum(job.progress.chunks_stored for job in done),
            "chunks_embedded": sum(job.progress.chunks_embedded for job in done) - reused,
            "chunks_reused": reused,
            "seconds": round(self.seconds, 2),
        }

    def document(self) -> dict[str, Any]:
        """The report for `--json`."""
        by_id = {job_id: job.json_document() for job_id, job in self.jobs.items()}
        files = [
            {
                "source": o.source,
                "state": o.state.value,
                "job": by_id.get(o.job_id or ""),
                "error": o.error,
                "warnings": list(o.warnings),
            }
            for o in self.outcomes
        ]
        problems = [{"source": source, "error": reason} for source, reason in self.problems()]
        return {
            "tenant": self.tenant,
            "interrupted": self.interrupted,
            "totals": self.totals(),
            "files": files,
            "errors": problems,
        }

    def lines(self) -> Iterable[str]:
        """The report for people."""
        totals = self.totals()
        yield (
            f"{totals['ingested']} ingested, {totals['unchanged']} unchanged, {totals['failed']} failed"
            + (f", {totals['pruned']} pruned" if totals["pruned"] else "")
            + (f", {totals['unfinished']} unfinished" if totals["unfinished"] else "")
            + f"; {totals['chunks_embedded']} chunks embedded, {totals['chunks_reused']} reused "
            f"in {totals['seconds']:.1f} s"
        )
        if self.interrupted:
            yield "stopped; run the same command again to go on"

    def _with_jobs(self) -> list[tuple[FileOutcome, JobInfo]]:
        followed = (FileState.SUBMITTED, FileState.RESUMED)
        return [
            (o, self.jobs[o.job_id])
            for o in self.outcomes
            if o.state in followed and o.job_id is not None and o.job_id in self.jobs
        ]


async def run_ingest(
    settings: Settings, paths: Sequence[Path], options: IngestOptions, *, prune: bool, quiet: bool
) -> IngestReport:
    """Ingest the paths. Errors of single files are in the report; other errors are raised."""
    # Raises for an unknown model before any work is done.
    Catalogue(settings.models).info(options.model or settings.models.default)
    report = IngestReport(tenant=options.tenant)
    started = monotonic()
    found = await asyncio.to_thread(find_files, paths, options.globs)
    empty = [] if prune else found.empty_folders
    problems = found.problems + [(path, with_command(why, Remedy.CHOOSE_FILES)) for path, why in empty]
    report.outcomes += [
        FileOutcome(printable(str(path)), FileState.FAILED, error=f"{printable(str(path))}: {why}")
        for path, why in problems
    ]
    stop = asyncio.Event()
    with stop_on_signal(stop):
        async with open_guest(settings) as guest, ParserSandbox(settings.parsing) as parser:
            ingest = Ingest(jobs=guest.jobs, parser=parser, options=options)
            with ProgressView(len(found.files), quiet=quiet) as view:
                await _Run(settings, guest.jobs, ingest, report, view, stop).run(found, prune=prune)
    report.seconds = monotonic() - started
    return report


class _Run:
    """One ingest: submits files and follows their jobs while workers process them."""

    def __init__(
        self,
        settings: Settings,
        jobs: EmbeddingJobManager,
        ingest: Ingest,
        report: IngestReport,
        view: ProgressView,
        stop: asyncio.Event,
    ) -> None:
        self._jobs = jobs.of(report.tenant)
        self._all_jobs = jobs.of_all_tenants()
        self._ingest = ingest
        self._report = report
        self._view = view
        self._stop = stop
        self._host = WorkersHost(settings, purpose="embedfleet ingest", announce=view.note)
        self._all_submitted = False

    async def run(self, found: Found, *, prune: bool) -> None:
        async def submit_and_follow() -> None:
            async with asyncio.TaskGroup() as steps:
                submitting = steps.create_task(self._submit(found, prune=prune), name="submit")
                await self._follow()
                # After a stop signal, the submission may be in the middle of a long file.
                submitting.cancel()

        await work_until(self._host, submit_and_follow)
        await self._refresh_jobs()

    async def _submit(self, found: Found, *, prune: bool) -> None:
        async for outcome in self._ingest.submit(found.files):
            self._report.outcomes.append(outcome)
            self._view.file_done()
            for warning in outcome.warnings:
                self._view.note(f"{outcome.source}: {warning}")
        if prune:
            async for outcome in self._ingest.prune(found.folders):
                self._report.outcomes.append(outcome)
        self._all_submitted = True

    async def _follow(self) -> None:
        """Return when all files are submitted and their jobs have ended, or at the stop signal.

        Raises StorageFull if the workers wait for space: an ingest should fail then, and not wait.
        """
        while not self._stop.is_set():
            trouble = self._host.trouble
            if isinstance(trouble, StorageFull):
                raise trouble
            await self._refresh_jobs()
            if self._all_submitted and not self._open_jobs() and not await self._all_jobs.cleanups_left():
                return
            await wait_briefly(self._stop, _POLL_SECONDS)
        self._report.interrupted = True

    async def _refresh_jobs(self) -> None:
        """Read the state of the jobs that have not ended."""
        for info in await self._jobs.statuses(self._open_jobs()):
            self._report.jobs[info.job_id] = info
        self._view.show(list(self._report.jobs.values()))

    def _open_jobs(self) -> list[str]:
        jobs = self._report.jobs
        ids = (o.job_id for o in self._report.outcomes if o.job_id is not None)
        return [job_id for job_id in ids if job_id not in jobs or not jobs[job_id].status.terminal]
