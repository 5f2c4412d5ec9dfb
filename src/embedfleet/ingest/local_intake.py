"""Reads files in this process and submits their texts. Small files go together through every step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from embedfleet.errors import (
    EmbedfleetError,
    EmptyDocument,
    InputError,
    OverBudget,
    ParseError,
    QuotaExceeded,
)
from embedfleet.ingest.files import File
from embedfleet.ingest.intake import (
    Admitted,
    Empty,
    IngestOptions,
    Refused,
    Taken,
    Unreadable,
    over_budget,
    refusal_of_losses,
)
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.lifecycle.estimates import Budget
from embedfleet.parsing.formats import ParsedDocument
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import DocumentEstimate, EstimateState, JobRequest
from embedfleet.tracking.tenant_jobs import TenantJobs
from embedfleet.waiting import in_groups

# Parsed texts of this many characters together are submitted before more is read. A small file may expand.
_GROUP_CHARS = 1 << 20
# A parsed text waits this long for the next one at most, as the next file may take minutes.
_LONGEST_WAIT_SECONDS = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Document:
    """A file and its text."""

    file: File
    parsed: ParsedDocument


@dataclass(frozen=True, slots=True)
class _NoText:
    """A file that has no text, and why."""

    file: File
    error: ParseError


class LocalIntake:
    """The intake of a process that opens the database itself."""

    def __init__(
        self,
        manager: EmbeddingJobManager,
        parser: ParserSandbox,
        tenant: str,
        *,
        budget: Budget | None = None,
    ) -> None:
        """With a `budget`, what is submitted costs no more than that."""
        self._budget = budget
        self._manager = manager
        self._parser = parser
        self._tenant = tenant

    @property
    def jobs(self) -> TenantJobs:
        return self._manager.of(self._tenant)

    @property
    def default_model(self) -> str:
        return self._manager.default_model

    @property
    def ocr(self) -> bool:
        return self._parser.ocr

    def knows_model(self, name: str) -> bool:
        return self._manager.knows_model(name)

    async def estimate(
        self, files: Sequence[File], options: IngestOptions
    ) -> AsyncGenerator[DocumentEstimate, None]:
        """Estimate files, as `Estimating.estimate` says. Raises UnknownModel, DatabaseUnavailable."""
        async with aclosing(self._texts(files, options)) as read, aclosing(_in_groups(read)) as groups:
            async for group in groups:
                requests = [self._request(one, options) for one in group if isinstance(one, _Document)]
                estimates = iter(await self.jobs.estimate_documents(requests))
                for one in group:
                    yield next(estimates) if isinstance(one, _Document) else self._unreadable(one)

    def _unreadable(self, one: _NoText) -> DocumentEstimate:
        return DocumentEstimate(
            media_id=one.file.media_id,
            source=one.file.source,
            model=one.file.model or self.default_model,
            state=EstimateState.UNREADABLE,
            error=str(one.error),
        )

    async def take(self, files: Sequence[File], options: IngestOptions) -> AsyncGenerator[Taken, None]:
        """Submit files, as `Intake.take` says.

        Raises StorageFull, ConfigError, DatabaseUnavailable. Raises OverBudget for the first file that costs
        more than is left of the budget; the files before it are submitted.
        """
        async with aclosing(self._read(files, options)) as read, aclosing(_in_groups(read)) as groups:
            async for whole_group in groups:
                group, over = await self._within_budget(whole_group, options)
                # Not cancelled with the caller: the jobs may be in SQL already, and must be told of.
                admission = asyncio.create_task(self._admit(group, options))
                cancelled: asyncio.CancelledError | None = None
                try:
                    await asyncio.shield(admission)
                except asyncio.CancelledError as exc:
                    cancelled = exc
                for taken in await admission:
                    yield taken
                if cancelled is not None:
                    raise cancelled
                if over is not None:
                    raise over

    # --- read ---

    async def _texts(
        self, files: Sequence[File], options: IngestOptions
    ) -> AsyncGenerator[_Document | _NoText, None]:
        """Yield for each file, in order, its text, or why it has none."""
        async with aclosing(self._parser.parse_many([file.source for file in files])) as answers:
            for file in files:
                yield _parsed(file, await anext(answers), options)

    async def _read(
        self, files: Sequence[File], options: IngestOptions
    ) -> AsyncGenerator[_Document | Taken, None]:
        """Yield for each file, in order, its text; or what became of it, if it has none."""
        async with aclosing(self._texts(files, options)) as texts:
            async for one in texts:
                yield one if isinstance(one, _Document) else await self._without_text(one)

    async def _without_text(self, one: _NoText) -> Taken:
        if isinstance(one.error, EmptyDocument):
            return Empty()
        reason = str(one.error)
        job_id = await self.jobs.record_unreadable(
            media_id=one.file.media_id,
            reason=reason,
            model=one.file.model,
            source=one.file.source,
            source_hash=one.file.source_hash,
        )
        return Unreadable(job_id, reason)

    # --- admit ---

    async def _within_budget(
        self, group: list[_Document | Taken], options: IngestOptions
    ) -> tuple[list[_Document | Taken], OverBudget | None]:
        """Return the first part of the group that the budget allows, and the refusal of what follows it."""
        if self._budget is None:
            return group, None
        requests = [self._request(one, options) for one in group if isinstance(one, _Document)]
        estimates = iter(await self.jobs.estimate_documents(requests, cut=False))
        for place, one in enumerate(group):
            if isinstance(one, _Document) and (over := over_budget(self._budget, one.file, next(estimates))):
                return group[:place], over
        return group, None

    async def _admit(self, group: Sequence[_Document | Taken], options: IngestOptions) -> list[Taken]:
        """Submit the documents of a group, and return what became of all, in order."""
        documents = [one for one in group if isinstance(one, _Document)]
        submitted = iter(await self._create(documents, options) if documents else ())
        return [next(submitted) if isinstance(one, _Document) else one for one in group]

    async def _create(self, documents: Sequence[_Document], options: IngestOptions) -> list[Taken]:
        """Submit documents. A document that is refused stops no other."""
        outcomes = await self._manager.create_each([self._request(one, options) for one in documents])
        return [_taken(one, outcome) for one, outcome in zip(documents, outcomes, strict=True)]

    def _request(self, document: _Document, options: IngestOptions) -> JobRequest:
        file, parsed = document.file, document.parsed
        return JobRequest(
            media_id=file.media_id,
            user_id=self._tenant,
            content=parsed.text,
            content_type=parsed.content_type,
            chunking_config=options.chunking,
            priority=options.priority,
            model=file.model,
            source=file.source,
            # The file may have changed since it was hashed. The parser's own hash is that of the text.
            source_hash=parsed.source_hash or file.source_hash,
            title=parsed.title,
            account=parsed.account,
            places=parsed.places,
            strict=options.strict,
            metadata=None if file.metadata is None else dict(file.metadata),
        )


def _taken(document: _Document, outcome: str | EmbedfleetError) -> Taken:
    """Return what became of a document. Raises an error that would hit every further one."""
    match outcome:
        case str():
            return Admitted(outcome, document.parsed.account)
        case InputError() | QuotaExceeded():
            return Refused(str(outcome))
        case _:
            raise outcome


def _parsed(file: File, answer: ParsedDocument | ParseError, options: IngestOptions) -> _Document | _NoText:
    if isinstance(answer, ParseError):
        return _NoText(file, answer)
    if options.strict and (refusal := refusal_of_losses(file.source, answer.account)):
        return _NoText(file, refusal)
    return _Document(file, answer)


def _in_groups(items: AsyncGenerator[T, None]) -> AsyncGenerator[list[T], None]:
    """Yield the items in groups of about a megabyte of text, in order."""
    return in_groups(items, size_of=_chars, full=_GROUP_CHARS, longest_wait_seconds=_LONGEST_WAIT_SECONDS)


def _chars(item: object) -> int:
    return len(item.parsed.text) if isinstance(item, _Document) else 0
