"""The work of `embedfleet ingest`: submits files, has workers process them, follows the jobs, reports."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

from embedfleet.cli.hopeless_wait import HopelessWait
from embedfleet.cli.ingest_progress import ProgressView
from embedfleet.cli.ingest_report import FOLLOWED, IngestReport, entry_of
from embedfleet.cli.interrupts import stop_on_signal
from embedfleet.cli.output import with_command
from embedfleet.cli.systems.port import IngestJobs, System
from embedfleet.cli.systems.workers import work_until
from embedfleet.errors import OverBudget, Remedy, UnknownJob
from embedfleet.ingest import FileOutcome, FileState, Found, Ingest, IngestOptions, encodable, find_files
from embedfleet.lifecycle.estimates import Budget
from embedfleet.paging import pages
from embedfleet.pruning import Documents, PrunePlan, plan_pruning
from embedfleet.queue_schemas import JobInfo
from embedfleet.waiting import first_of, unless_stopped, wait_briefly

_LOOK_SECONDS = 0.2  # how soon a full disk ends the command
# The most files that are told of at once: no more descriptions of jobs are in memory.
_TOLD_AT_ONCE = 500

Tell = Callable[[Sequence[Mapping[str, Any]]], None]
"""Takes the entries of files for `--json`. Other threads call it, one call at a time; it may block."""


class Prune(Enum):
    """What happens to documents whose files are gone."""

    NONE = auto()
    UNLESS_MANY = auto()
    """They are deleted, unless it looks as if the folder were emptied by accident."""
    ALL = auto()


async def run_ingest(
    system: System,
    paths: Sequence[Path],
    options: IngestOptions,
    *,
    prune: Prune,
    tell: Tell | None,
    max_cost: float | None = None,
) -> IngestReport:
    """Ingest the paths. Errors of single files are in the report; other errors are raised.

    It submits no file that would make it cost more than `max_cost`, and no file after that one.

    `tell` gets the entry of each file when its job has ended, in the order of the files; after an
    interruption, the rest of them. With it no progress is shown.
    """
    # Raises for an unknown model before any work is done.
    await system.require_model(options.model)
    budget = None if max_cost is None else Budget(max_cost)
    report = IngestReport(tenant=options.tenant, budget=budget)
    started = monotonic()
    found = await asyncio.to_thread(find_files, paths, options.globs)
    report.skipped = dict(found.skipped)
    stop = asyncio.Event()
    with stop_on_signal(stop):
        ingest = Ingest(await system.intake(options.tenant, budget=budget), options)
        jobs = await system.jobs_of(options.tenant)
        with ProgressView(len(found.files), quiet=tell is not None) as view:
            await _Run(system, jobs, ingest, report, view, stop, tell, prune).run(found)
    report.seconds = monotonic() - started
    report.kept_models, report.left_models = dict(ingest.kept_models), dict(ingest.left_models)
    return report


class _Run:
    """One ingest: submits files and follows their jobs while workers process them."""

    def __init__(
        self,
        system: System,
        jobs: IngestJobs,
        ingest: Ingest,
        report: IngestReport,
        view: ProgressView,
        stop: asyncio.Event,
        tell: Tell | None,
        prune: Prune,
    ) -> None:
        self._prune = prune
        self._system = system
        self._jobs = jobs
        self._ingest = ingest
        self._report = report
        self._view = view
        self._stop = stop
        self._tell = tell
        self._workers = system.workers(purpose="embedfleet ingest", announce=view.note)
        # The outcomes that are not in the report yet, in order: their jobs may not have ended.
        self._untold: deque[FileOutcome] = deque()
        self._submitted_more = asyncio.Event()
        self._all_submitted = False

    async def run(self, found: Found) -> None:
        async def submit_and_follow() -> None:
            async with asyncio.TaskGroup() as steps:
                submitting = steps.create_task(self._submit(found), name="submit")
                watching = steps.create_task(self._watch(), name="watch")
                self._report.interrupted = not await self._follow(found)
                # After a stop signal, the submission may be in the middle of a long file.
                submitting.cancel()
                watching.cancel()

        await work_until(self._workers, submit_and_follow)
        await self._tell_the_rest()

    # --- submit ---

    async def _submit(self, found: Found) -> None:
        for outcome in not_found(found, pruning=self._prune is not Prune.NONE):
            self._note(outcome)
        reached = 0
        try:
            async for outcome in self._ingest.submit(found.files):
                self._note(outcome)
                self._view.file_done()
                reached += 1
        except OverBudget as exc:
            self._report.over_budget = exc
            self._report.not_reached = len(found.files) - reached
        self._all_submitted = True
        self._submitted_more.set()

    def _note(self, outcome: FileOutcome) -> None:
        self._untold.append(outcome)
        self._submitted_more.set()

    async def _watch(self) -> None:
        """Show the progress. Raises what the workers wait for if it does not pass by itself."""
        shown, pause = monotonic(), self._view.seconds_between_looks
        wait = HopelessWait()
        while not self._stop.is_set():
            error = wait.error(self._workers.trouble, monotonic())
            if error is not None:
                raise error
            if pause is not None and monotonic() - shown >= pause:
                self._view.show(await self._jobs.totals(since=self._ingest.since))
                shown = monotonic()
            await wait_briefly(self._stop, _LOOK_SECONDS)

    # --- follow ---

    async def _follow(self, found: Found) -> bool:
        """Tell of each file when its job has ended. Return when all is done; False at the stop signal.

        The files are told of in order. So no description of a job is kept until the end, however many files
        there are; and a slow file holds back the report of those after it, but not their work.
        """
        while not self._stop.is_set():
            self._submitted_more.clear()
            page = list(islice(self._untold, _TOLD_AT_ONCE))
            if page:
                ended = await unless_stopped(self._stop, self._ends_of(page))
                if ended is not None:
                    await self._tell_of(page, ended)
            elif not self._all_submitted:
                await first_of(self._submitted_more.wait(), self._stop.wait())
            else:
                # After the jobs: a file that moved gets its vectors from the cache of the document that goes.
                await self._delete_gone(found)
                await unless_stopped(self._stop, self._system.wait_for_cleanups())
                return not self._stop.is_set()
        return False

    async def _delete_gone(self, found: Found) -> None:
        """Delete the documents whose files are gone, folder by folder, and tell of them."""
        if self._prune is Prune.NONE or self._report.over_budget is not None:
            return
        for plan in await plans_of(self._jobs, found):
            outcomes = [refused_outcome(plan)] if plan.refusal and self._prune is not Prune.ALL else []
            for document in [] if outcomes else plan.gone:
                if self._stop.is_set():
                    break
                await self._jobs.delete_document(media_id=document.media_id)
                self._untold.append(FileOutcome(document.source, FileState.PRUNED))
            self._untold.extend(outcomes)
            for page in pages(list(self._untold), _TOLD_AT_ONCE):
                await self._tell_of(page, {})

    async def _ends_of(self, page: Sequence[FileOutcome]) -> dict[str, JobInfo]:
        """Return how the jobs of these files ended, when all have. A job that was deleted is left out."""
        wanted = self._jobs_of(page)
        while True:
            try:
                return await self._jobs.wait_many(wanted)
            except UnknownJob:  # deleted before the wait began
                wanted = [info.job_id for info in await self._jobs.statuses(wanted)]

    async def _tell_the_rest(self) -> None:
        """Tell of the files whose jobs have not ended: nothing works on them any more."""
        for page in pages(list(self._untold), _TOLD_AT_ONCE):
            infos = await self._jobs.statuses(self._jobs_of(page))
            await self._tell_of(page, {info.job_id: info for info in infos})

    def _jobs_of(self, page: Sequence[FileOutcome]) -> list[str]:
        """Return the jobs that the report needs: only `tell` needs those that had ended before."""
        return [
            outcome.job_id
            for outcome in page
            if outcome.job_id is not None and (self._tell is not None or outcome.state in FOLLOWED)
        ]

    async def _tell_of(self, page: Sequence[FileOutcome], jobs: Mapping[str, JobInfo]) -> None:
        """Take these files, the first of `_untold`, into the report."""
        told = [(outcome, jobs.get(outcome.job_id or "")) for outcome in page]
        for outcome, job in told:
            self._untold.popleft()
            self._report.add(outcome, job)
        if (tell := self._tell) is not None:
            # On a thread: a reader that pauses must not stop the workers of this process.
            await asyncio.to_thread(lambda: tell([entry_of(outcome, job) for outcome, job in told]))


async def plans_of(jobs: Documents, found: Found) -> list[PrunePlan]:
    """Return what pruning each of the folders deletes."""
    without_files = {path for path, _ in found.empty_folders}
    return [
        await plan_pruning(jobs, folder, holds_files=folder not in without_files, unlisted=found.unlisted)
        for folder in found.folders
    ]


def refused_outcome(plan: PrunePlan) -> FileOutcome:
    """Return the outcome that says why a folder is not pruned."""
    folder = encodable(str(plan.folder))
    why = with_command(f"{folder}: {plan.refusal}", Remedy.PRUNE_ALL)
    return FileOutcome(folder, FileState.FAILED, error=why)


def not_found(found: Found, *, pruning: bool) -> Iterator[FileOutcome]:
    """The paths that cannot be used. An empty folder is a mistake, unless documents are pruned."""
    empty = (
        []
        if pruning
        else [(path, with_command(why, Remedy.CHOOSE_FILES)) for path, why in found.empty_folders]
    )
    for path, why in found.problems + empty:
        name = encodable(str(path))
        yield FileOutcome(name, FileState.FAILED, error=f"{name}: {why}")
