"""Takes the files of an ingest to their jobs: skips unchanged ones, and submits the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from embedfleet.clock import SystemClock, utc
from embedfleet.errors import InputError
from embedfleet.ingest.files import File, batches_of, hash_next, media_id_of
from embedfleet.ingest.intake import Admitted, Empty, Estimating, IngestOptions, Intake, Taken, Unreadable
from embedfleet.ingest.outcomes import FileOutcome, FileState, failed
from embedfleet.paging import halves
from embedfleet.parsing.sandbox import StrPath
from embedfleet.queue_schemas import DocumentEstimate, EstimateState, JobInfo, JobStatus


class Ingest:
    """Submits files as jobs of one tenant."""

    def __init__(self, intake: Intake, options: IngestOptions) -> None:
        self._intake = intake
        self._jobs = intake.jobs
        self._options = options
        self._since = utc(SystemClock().now())
        self._kept_models: Counter[str] = Counter()
        self._left_models: Counter[str] = Counter()

    @property
    def since(self) -> datetime:
        """When the oldest of the jobs was submitted that this ingest submitted or resumed so far."""
        return self._since

    @property
    def kept_models(self) -> Mapping[str, int]:
        """By model: how many files so far kept the model of their document, which is not the default one."""
        return self._kept_models

    @property
    def left_models(self) -> Mapping[str, int]:
        """By model: how many files so far left it for the default one, as it is not configured any more."""
        return self._left_models

    async def preview(self, files: Iterable[StrPath]) -> AsyncIterator[FileOutcome]:
        """Yield what `submit` would do with each file, in order, and change nothing.

        A file that would be submitted is SUBMITTED, without a job. That its text can be read is not tried.
        """
        batches = batches_of(files)
        while batch := await self._next(batches):
            jobs = await self._jobs_of([one for one in batch if isinstance(one, File)])
            for one in batch:
                if isinstance(one, FileOutcome):
                    yield one
                elif (job := jobs.get(one.source)) is not None:
                    yield _outcome_of(one.source, job, None)
                else:
                    yield FileOutcome(one.source, FileState.SUBMITTED)

    async def estimate(self, files: Iterable[StrPath], intake: Estimating) -> AsyncIterator[DocumentEstimate]:
        """Yield what each file would cost if it were submitted, in order. Nothing is written.

        `intake` is that of this ingest. Files that did not change are not read, and cost nothing.
        """
        batches = batches_of(files)
        while batch := await self._next(batches):
            jobs = await self._jobs_of([one for one in batch if isinstance(one, File)])
            unknown = [one for one in batch if isinstance(one, File) and one.source not in jobs]
            async with aclosing(intake.estimate(unknown, self._options)) as estimates:
                for one in batch:
                    if isinstance(one, FileOutcome):
                        yield self._unusable(one)
                    elif (job := jobs.get(one.source)) is not None:
                        yield self._known_already(one, job)
                    else:
                        yield await anext(estimates)

    def _unusable(self, one: FileOutcome) -> DocumentEstimate:
        return DocumentEstimate(
            media_id=media_id_of(one.source),
            source=one.source,
            model=self._options.model or self._intake.default_model,
            state=EstimateState.UNREADABLE,
            error=one.error,
        )

    def _known_already(self, file: File, job: JobInfo) -> DocumentEstimate:
        done = job.status is JobStatus.COMPLETED
        return DocumentEstimate(
            media_id=file.media_id,
            source=file.source,
            model=file.model or self._intake.default_model,
            state=EstimateState.UNCHANGED if done else EstimateState.UNDER_WAY,
        )

    async def submit(self, files: Iterable[StrPath]) -> AsyncIterator[FileOutcome]:
        """Submit the files. Yields the outcome of each, in order, soon after it is known.

        Raises only errors that would hit every further file: StorageFull, ConfigError, Transient, OverBudget.
        If it is cancelled, it still yields the outcomes of files that are just being submitted.
        """
        batches = batches_of(files)
        while batch := await self._next(batches):
            hashed = [one for one in batch if isinstance(one, File)]
            known = await self._known(hashed)
            unknown = [file for file in hashed if file.source not in known]
            async with aclosing(self._intake.take(unknown, self._options)) as taken:
                for one in batch:
                    if isinstance(one, FileOutcome):
                        yield one
                    elif one.source in known:
                        yield known[one.source]
                    else:
                        yield await self._outcome(one, await anext(taken))
                # A stop while the last of them were submitted is raised behind them.
                await anext(taken, None)

    async def _next(self, batches: Iterator[list[str]]) -> list[File | FileOutcome]:
        """Hash the files of the next batch and choose their models. Returns none after the last batch."""
        batch = await asyncio.to_thread(hash_next, batches, self._intake.ocr, self._options.metadata)
        chosen = self._options.model
        if chosen is not None:
            return [replace(one, model=chosen) if isinstance(one, File) else one for one in batch]
        # Without a choice a document keeps its model: another one would embed all of it again, and searches
        # with the model of before would no longer find it. So it does if rules would choose another one now:
        # to route again is an order of its own.
        files = [one for one in batch if isinstance(one, File)]
        models = await self._jobs.models_of([file.media_id for file in files])
        kept = {media: name for media, name in models.items() if self._intake.knows_model(name)}
        self._kept_models.update(name for name in kept.values() if name != self._intake.default_model)
        self._left_models.update(name for media, name in models.items() if media not in kept)
        return [replace(one, model=kept.get(one.media_id)) if isinstance(one, File) else one for one in batch]

    async def _known(self, files: Sequence[File]) -> dict[str, FileOutcome]:
        """Return the outcomes, by source, of files that need not be read: they have a job already.

        A job that has ended badly runs again.
        """
        try:
            jobs = await self._jobs_of(files)
        except InputError as exc:
            return {file.source: failed(file.source, str(exc)) for file in files}
        await self._jobs.replace_metadata(
            {one.media_id: one.metadata for one in files if one.source in jobs and one.metadata is not None}
        )
        refused = await self._run_again([job.job_id for job in jobs.values() if _ended_badly(job)])
        resumed = [job for job in jobs.values() if job.status is not JobStatus.COMPLETED]
        self._since = min([self._since, *(job.created_at for job in resumed)])
        return {source: _outcome_of(source, job, refused.get(job.job_id)) for source, job in jobs.items()}

    async def _jobs_of(self, files: Sequence[File]) -> dict[str, JobInfo]:
        """Return, by source, the jobs of files that did not change since they were submitted."""
        jobs: dict[str, JobInfo] = {}
        for model in dict.fromkeys(file.model for file in files):
            of_model = [file for file in files if file.model == model]
            found = await self._jobs.find_jobs(
                [(file.media_id, file.source_hash) for file in of_model],
                chunking_config=self._options.chunking,
                model=model,
            )
            jobs |= {
                file.source: job
                for file, job in zip(of_model, found, strict=True)
                # A strict ingest reads what lost content again, to refuse it.
                if job is not None and not (self._options.strict and job.account.lost)
            }
        return jobs

    async def _run_again(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Run these jobs again. Returns, by job, why one cannot run again."""
        if not job_ids:
            return {}
        try:
            return {one.job_id: one.reason for one in (await self._jobs.retry_many(job_ids)).refused}
        except InputError as exc:  # one of them was deleted just now, and none was retried
            if len(job_ids) == 1:
                return {job_ids[0]: str(exc)}
        first, second = halves(job_ids)
        return await self._run_again(first) | await self._run_again(second)

    async def _outcome(self, file: File, taken: Taken) -> FileOutcome:
        match taken:
            case Admitted():
                return FileOutcome(file.source, FileState.SUBMITTED, taken.job_id, account=taken.account)
            case Unreadable():
                return FileOutcome(file.source, FileState.FAILED, taken.job_id, taken.reason)
            case Empty():
                had_text = await self._jobs.delete_document(media_id=file.media_id)
                return FileOutcome(file.source, FileState.EMPTIED if had_text else FileState.EMPTY)
        return failed(file.source, taken.reason)


def _ended_badly(job: JobInfo) -> bool:
    return job.status.terminal and job.status is not JobStatus.COMPLETED


def _outcome_of(source: str, job: JobInfo, refused: str | None) -> FileOutcome:
    """Return the outcome of a file with a job. `refused` says why the job cannot run again, if it should."""
    if refused is not None:
        return failed(source, refused)
    state = FileState.UNCHANGED if job.status is JobStatus.COMPLETED else FileState.RESUMED
    return FileOutcome(source, state, job_id=job.job_id, account=job.account)
