"""Reads files in this process and submits their texts. Small files go together through every step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from embedfleet.errors import EmptyDocument, InputError, ParseError, QuotaExceeded
from embedfleet.ingest.files import File
from embedfleet.ingest.intake import Admitted, Empty, IngestOptions, Refused, Taken, Unreadable
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.paging import halves
from embedfleet.parsing.formats import ParsedDocument
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import JobRequest
from embedfleet.tracking.tenant_jobs import TenantJobs
from embedfleet.waiting import cancel_and_wait

# Parsed texts of this many characters together are submitted before more is read. A small file may expand.
_GROUP_CHARS = 1 << 20
# A parsed text waits this long for the next one at most, as the next file may take minutes.
_LONGEST_WAIT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Document:
    """A file and its text."""

    file: File
    parsed: ParsedDocument


class LocalIntake:
    """The intake of a process that opens the database itself."""

    def __init__(self, manager: EmbeddingJobManager, parser: ParserSandbox, tenant: str) -> None:
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

    async def take(self, files: Sequence[File], options: IngestOptions) -> AsyncGenerator[Taken, None]:
        """Submit files, as `Intake.take` says.

        Raises StorageFull, ConfigError, DatabaseUnavailable.
        """
        async with aclosing(self._read(files, options)) as read, aclosing(_in_groups(read)) as groups:
            async for group in groups:
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

    # --- read ---

    async def _read(
        self, files: Sequence[File], options: IngestOptions
    ) -> AsyncGenerator[_Document | Taken, None]:
        """Yield for each file, in order, its text; or what became of it, if it has none."""
        async with aclosing(self._parser.parse_many([file.source for file in files])) as answers:
            for file in files:
                yield await self._parsed(file, await anext(answers), options)

    async def _parsed(
        self, file: File, answer: ParsedDocument | ParseError, options: IngestOptions
    ) -> _Document | Taken:
        if isinstance(answer, EmptyDocument):
            return Empty()
        if isinstance(answer, ParsedDocument) and options.strict and answer.account.lost:
            lines = "; ".join(entry.line for entry in answer.account.lost)
            answer = ParseError(f"{file.source}: {lines}")
        if isinstance(answer, ParsedDocument):
            return _Document(file, answer)
        job_id = await self.jobs.record_unreadable(
            media_id=file.media_id,
            reason=str(answer),
            model=file.model,
            source=file.source,
            source_hash=file.source_hash,
        )
        return Unreadable(job_id, str(answer))

    # --- admit ---

    async def _admit(self, group: Sequence[_Document | Taken], options: IngestOptions) -> list[Taken]:
        """Submit the documents of a group, and return what became of all, in order."""
        documents = [one for one in group if isinstance(one, _Document)]
        submitted = iter(await self._create(documents, options) if documents else ())
        return [next(submitted) if isinstance(one, _Document) else one for one in group]

    async def _create(self, documents: Sequence[_Document], options: IngestOptions) -> list[Taken]:
        """Submit documents in one transaction; if one of them is refused, in smaller and smaller ones."""
        try:
            job_ids = await self._manager.create_jobs([self._request(one, options) for one in documents])
        except (InputError, QuotaExceeded) as exc:  # nothing was admitted
            if len(documents) == 1:
                return [Refused(str(exc))]
        else:
            made = zip(documents, job_ids, strict=True)
            return [Admitted(job_id, one.parsed.account) for one, job_id in made]
        first, second = halves(documents)
        # One after the other: of documents over a quota, the first ones are admitted.
        return [*await self._create(first, options), *await self._create(second, options)]

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


async def _in_groups(
    items: AsyncGenerator[_Document | Taken, None],
) -> AsyncGenerator[list[_Document | Taken], None]:
    """Yield the items in groups, in order. A group ends when its text is long or the next item takes long.

    So a text waits for others as long as they come quickly, and little text is in memory at once.
    """
    group: list[_Document | Taken] = []
    chars = 0
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while True:
            if group and chars < _GROUP_CHARS:
                await asyncio.wait([coming], timeout=_LONGEST_WAIT_SECONDS)
            if group and (chars >= _GROUP_CHARS or not coming.done()):
                yield group
                group, chars = [], 0
            item = await coming
            if item is None:
                break
            group.append(item)
            chars += len(item.parsed.text) if isinstance(item, _Document) else 0
            coming = asyncio.ensure_future(anext(items, None))
        if group:
            yield group
    finally:
        await cancel_and_wait(coming)
