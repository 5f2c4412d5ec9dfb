"""Makes jobs from files: finds files, skips unchanged ones, parses the others and submits them.

One bad file never stops the others: an error of a file is an outcome, not an exception.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.clock import SystemClock, utc
from embedfleet.document_metadata import Metadata
from embedfleet.errors import EmptyDocument, InputError, ParseError, QuotaExceeded
from embedfleet.file_metadata import described_by, metadata_of_file
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.parsing.formats import ParsedDocument, is_supported
from embedfleet.parsing.sandbox import ParserSandbox, StrPath
from embedfleet.parsing.source_hash import source_hash_of
from embedfleet.queue_schemas import ChunkingConfig, JobInfo, JobRequest, JobStatus
from embedfleet.waiting import cancel_and_wait

T = TypeVar("T")

# Files go through the parser and into SQL in batches, up to this many files and bytes. What a batch costs as
# a whole (a turn of the pipe, a transaction) is then far less than its files cost, and a batch of notes is
# submitted within a tenth of a second.
_BATCH_FILES = 64
_BATCH_BYTES = 1 << 20
# Parsed texts of this many characters together are submitted before more is read. A small file may expand.
_GROUP_CHARS = 1 << 20
_HIDDEN = "hidden"
# A parsed text waits this long for the next one at most, as the next file may take minutes.
_LONGEST_WAIT_SECONDS = 0.1


class FileState(StrEnum):
    """What the ingest did with a file. The file's job shows its further progress.

    `empty`: there is no text in it, so it is no document. `emptied`: it had text when it was ingested before,
    so its document was deleted.
    """

    SUBMITTED = "submitted"
    RESUMED = "resumed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    EMPTY = "empty"
    EMPTIED = "emptied"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The result of one file.

    `error` is set exactly if the state is FAILED. `job_id` is set if the file has a job. `account` says what
    of the file is not in its text.
    """

    source: str
    state: FileState
    job_id: str | None = None
    error: str | None = None
    account: Account = NOTHING_SAID


@dataclass(frozen=True, slots=True)
class _File:
    """A file that can be read. `source_hash` is of its bytes when they were looked at.

    `model` is the one that the caller chose, or that its document has already; None: the default model.
    `metadata` is as `JobRequest` takes it.
    """

    source: str
    media_id: str
    source_hash: str
    model: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class _Document:
    """A file and its text."""

    file: _File
    parsed: ParsedDocument


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """The options of an ingest. Without a `model`, a document keeps its model, and a new one gets the default
    model. `globs` choose files in folders; without any, all known formats are taken. With `strict`, a
    document of which content is lost fails. `metadata` is that of every file, and the file beside a file that
    describes it (`file_metadata`) has more of it. Without either, a document keeps what it has."""

    tenant: str
    model: str | None = None
    chunking: ChunkingConfig | None = None
    globs: Sequence[str] = ()
    priority: int = 50
    strict: bool = False
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The files and folders at the given paths.

    `problems`: (path, reason) for paths that cannot be used. `unlisted`: the folders among them that exist,
    but cannot be listed. `empty_folders`: (path, reason) for folders in which no file is taken. That is
    probably a mistake, unless the user prunes documents whose files are gone. `skipped` counts what is in the
    folders and not taken, by kind: the suffix of the files, or what they are.
    """

    files: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    unlisted: list[Path] = field(default_factory=list)
    empty_folders: list[tuple[Path, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def find_files(paths: Iterable[Path], globs: Sequence[str] = ()) -> Found:
    """Find every file at or below the paths, each once, sorted within its folder.

    In a folder, only known formats are taken, or the files that match a glob; hidden files and folders are
    left out, and links to folders are not followed. What is left out is counted by kind, unless a glob leaves
    it out. A file that describes another one (`file_metadata`) is not a document. A file that is named itself
    is always taken.
    """
    found = Found()
    files: dict[str, None] = {}
    for given in paths:
        path = os.path.abspath(given.expanduser())
        if os.path.isdir(path):
            found.folders.append(Path(path))
            taken = 0
            for file in _walk(path, globs, found):
                files[file] = None
                taken += 1
            if not taken:
                found.empty_folders.append((Path(path), _reason_for_no_file(globs)))
        elif os.path.lexists(path):
            files[path] = None
        else:
            found.problems.append((Path(path), "no such file or folder: check the spelling"))
    found.files.extend(files)
    return found


def _reason_for_no_file(globs: Sequence[str]) -> str:
    if globs:
        return f"no file in it matches {' or '.join(globs)}: change the pattern"
    return "no file of a known format in it: name files outright, or choose them with a pattern"


def _walk(folder: str, globs: Sequence[str], found: Found) -> Iterator[str]:
    def unreadable(exc: OSError) -> None:
        unlisted = Path(exc.filename or folder)
        found.unlisted.append(unlisted)
        found.problems.append((unlisted, f"cannot be listed ({exc.strerror}): check its permissions"))

    for where, folders, files in os.walk(folder, onerror=unreadable):
        left_out = [_kind_of_folder(os.path.join(where, name)) for name in folders]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        present = set(files)
        for name in sorted(files):
            if described_by(name) in present:
                continue
            path = os.path.join(where, name)
            if not name.startswith(".") and _wanted(path, folder, globs):
                yield path
            else:
                left_out.append(_kind_of_file(name))
        # What a glob leaves out is left out on purpose.
        found.skipped.update(kind for kind in left_out if kind is not None and not globs)


def _kind_of_folder(path: str) -> str | None:
    """What a folder is called among the things that are skipped; None if it is walked."""
    if os.path.basename(path).startswith("."):
        return _HIDDEN
    return "linked folder" if os.path.islink(path) else None


def _kind_of_file(name: str) -> str:
    return _HIDDEN if name.startswith(".") else os.path.splitext(name)[1].lower() or "no suffix"


def _wanted(path: str, folder: str, globs: Sequence[str]) -> bool:
    if not globs:
        return is_supported(path)
    relative = path.removeprefix(folder).replace(os.sep, "/").lstrip("/")
    name = os.path.basename(path)
    return any(fnmatch.fnmatch(relative, glob) or fnmatch.fnmatch(name, glob) for glob in globs)


def media_id_of(source: str) -> str:
    """Return the media id of a file. It is made from the path, so a changed file stays the same document."""
    return f"file-{hashlib.sha256(source.encode()).hexdigest()[:24]}"


class Ingest:
    """Submits files as jobs of one tenant. Small files go together through every step."""

    def __init__(self, *, jobs: EmbeddingJobManager, parser: ParserSandbox, options: IngestOptions) -> None:
        self._manager = jobs
        self._jobs = jobs.of(options.tenant)
        self._parser = parser
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
        batches = _batches(files)
        while batch := await self._next(batches):
            jobs = await self._jobs_of([one for one in batch if isinstance(one, _File)])
            for one in batch:
                if isinstance(one, FileOutcome):
                    yield one
                elif (job := jobs.get(one.source)) is not None:
                    yield _outcome_of(one.source, job, None)
                else:
                    yield FileOutcome(one.source, FileState.SUBMITTED)

    async def submit(self, files: Iterable[StrPath]) -> AsyncIterator[FileOutcome]:
        """Submit the files. Yields the outcome of each, in order, soon after it is known.

        Raises only errors that would hit every further file: StorageFull, ConfigError, DatabaseUnavailable.
        If it is cancelled, it still yields the outcomes of files that are just being submitted.
        """
        batches = _batches(files)
        while batch := await self._next(batches):
            async with aclosing(self._read(batch)) as read, aclosing(_in_groups(read)) as groups:
                async for group in groups:
                    # Not cancelled with the caller: the jobs may be in SQL already, and must be told of.
                    admission = asyncio.create_task(self._admit(group))
                    cancelled: asyncio.CancelledError | None = None
                    try:
                        await asyncio.shield(admission)
                    except asyncio.CancelledError as exc:
                        cancelled = exc
                    for outcome in await admission:
                        yield outcome
                    if cancelled is not None:
                        raise cancelled

    # --- read ---

    async def _next(self, batches: Iterator[list[str]]) -> list[_File | FileOutcome]:
        """Hash the files of the next batch and choose their models. Returns none after the last batch."""
        batch = await asyncio.to_thread(_hash_next, batches, self._parser.ocr, self._options.metadata)
        chosen = self._options.model
        if chosen is not None:
            return [replace(one, model=chosen) if isinstance(one, _File) else one for one in batch]
        # Without a choice a document keeps its model: another one would embed all of it again, and searches
        # with the model of before would no longer find it.
        files = [one for one in batch if isinstance(one, _File)]
        models = await self._jobs.models_of([file.media_id for file in files])
        others = {media: name for media, name in models.items() if name != self._manager.default_model}
        kept = {media: name for media, name in others.items() if self._manager.knows_model(name)}
        self._kept_models.update(kept.values())
        self._left_models.update(name for media, name in others.items() if media not in kept)
        return [
            replace(one, model=kept.get(one.media_id)) if isinstance(one, _File) else one for one in batch
        ]

    async def _read(
        self, batch: Sequence[_File | FileOutcome]
    ) -> AsyncGenerator[_Document | FileOutcome, None]:
        """Yield for each file of the batch, in order, its text; or its outcome, where that is known now."""
        files = [one for one in batch if isinstance(one, _File)]
        known = await self._known(files)
        unread = [file.source for file in files if file.source not in known]
        async with aclosing(self._parser.parse_many(unread)) as answers:
            for one in batch:
                if isinstance(one, FileOutcome):
                    yield one
                elif one.source in known:
                    yield known[one.source]
                else:
                    yield await self._parsed(one, await anext(answers))

    async def _known(self, files: Sequence[_File]) -> dict[str, FileOutcome]:
        """Return the outcomes, by source, of files that need not be read: they have a job already.

        A job that has ended badly runs again.
        """
        try:
            jobs = await self._jobs_of(files)
        except InputError as exc:
            return {file.source: _failed(file.source, str(exc)) for file in files}
        await self._jobs.replace_metadata(
            {one.media_id: one.metadata for one in files if one.source in jobs and one.metadata is not None}
        )
        refused = await self._run_again([job.job_id for job in jobs.values() if _ended_badly(job)])
        resumed = [job for job in jobs.values() if job.status is not JobStatus.COMPLETED]
        self._since = min([self._since, *(job.created_at for job in resumed)])
        return {source: _outcome_of(source, job, refused.get(job.job_id)) for source, job in jobs.items()}

    async def _jobs_of(self, files: Sequence[_File]) -> dict[str, JobInfo]:
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
        first, second = _halves(job_ids)
        return await self._run_again(first) | await self._run_again(second)

    async def _parsed(self, file: _File, answer: ParsedDocument | ParseError) -> _Document | FileOutcome:
        if isinstance(answer, EmptyDocument):
            had_text = await self._jobs.delete_document(media_id=file.media_id)
            return FileOutcome(file.source, FileState.EMPTIED if had_text else FileState.EMPTY)
        if isinstance(answer, ParsedDocument) and self._options.strict and answer.account.lost:
            lines = "; ".join(entry.line for entry in answer.account.lost)
            answer = ParseError(f"{file.source}: {lines}")
        if isinstance(answer, ParsedDocument):
            return _Document(file, answer)
        job_id = await self._jobs.record_unreadable(
            media_id=file.media_id,
            reason=str(answer),
            model=file.model,
            source=file.source,
            source_hash=file.source_hash,
        )
        return FileOutcome(file.source, FileState.FAILED, job_id=job_id, error=str(answer))

    # --- admit ---

    async def _admit(self, group: Sequence[_Document | FileOutcome]) -> list[FileOutcome]:
        """Submit the documents of a group, and return the outcomes of all, in order."""
        documents = [one for one in group if isinstance(one, _Document)]
        submitted = iter(await self._create(documents) if documents else ())
        return [one if isinstance(one, FileOutcome) else next(submitted) for one in group]

    async def _create(self, documents: Sequence[_Document]) -> list[FileOutcome]:
        """Submit documents in one transaction; if one of them is refused, in smaller and smaller ones."""
        try:
            job_ids = await self._manager.create_jobs([self._request(one) for one in documents])
        except (InputError, QuotaExceeded) as exc:  # nothing was admitted
            if len(documents) == 1:
                return [_failed(documents[0].file.source, str(exc))]
        else:
            return [
                FileOutcome(one.file.source, FileState.SUBMITTED, job_id=job_id, account=one.parsed.account)
                for one, job_id in zip(documents, job_ids, strict=True)
            ]
        first, second = _halves(documents)
        # One after the other: of documents over a quota, the first ones are admitted.
        return [*await self._create(first), *await self._create(second)]

    def _request(self, document: _Document) -> JobRequest:
        options, file, parsed = self._options, document.file, document.parsed
        return JobRequest(
            media_id=file.media_id,
            user_id=options.tenant,
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
    items: AsyncGenerator[_Document | FileOutcome, None],
) -> AsyncGenerator[list[_Document | FileOutcome], None]:
    """Yield the items in groups, in order. A group ends when its text is long or the next item takes long.

    So a text waits for others as long as they come quickly, and little text is in memory at once.
    """
    group: list[_Document | FileOutcome] = []
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


def _batches(files: Iterable[StrPath]) -> Iterator[list[str]]:
    """Split the files into batches of small ones. A large file is a batch of its own. This blocks."""
    batch: list[str] = []
    batch_bytes = 0
    for file in files:
        source = os.fspath(file)
        size = _size_of(source)
        if batch and (len(batch) == _BATCH_FILES or batch_bytes + size > _BATCH_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(source)
        batch_bytes += size
    if batch:
        yield batch


def _size_of(source: str) -> int:
    """Return the size of a file; 0 if it has none that can be known. What is wrong shows when it is read."""
    try:
        return os.stat(source).st_size
    except (OSError, ValueError):
        return 0


def _hash_next(
    batches: Iterator[list[str]], ocr: bool, metadata: Metadata | None
) -> list[_File | FileOutcome]:
    """Hash the files of the next batch. Returns none after the last batch. This blocks."""
    return [_hashed(source, metadata, ocr=ocr) for source in next(batches, [])]


def _hashed(source: str, metadata: Metadata | None, *, ocr: bool) -> _File | FileOutcome:
    try:
        _refuse_undecodable_name(source)
        digest = _hash_file(source, ocr=ocr)
        return _File(source, media_id_of(source), digest, metadata=metadata_of_file(source, metadata))
    except ParseError as exc:
        return _failed(source, str(exc))


def _failed(source: str, error: str) -> FileOutcome:
    return FileOutcome(encodable(source), FileState.FAILED, error=error)


def _ended_badly(job: JobInfo) -> bool:
    return job.status.terminal and job.status is not JobStatus.COMPLETED


def _outcome_of(source: str, job: JobInfo, refused: str | None) -> FileOutcome:
    """Return the outcome of a file with a job. `refused` says why the job cannot run again, if it should."""
    if refused is not None:
        return _failed(source, refused)
    state = FileState.UNCHANGED if job.status is JobStatus.COMPLETED else FileState.RESUMED
    return FileOutcome(source, state, job_id=job.job_id, account=job.account)


def _halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _refuse_undecodable_name(source: str) -> None:
    try:
        source.encode()
    except UnicodeEncodeError as exc:
        raise ParseError(f"{encodable(source)}: its name is not valid UTF-8: rename it") from exc


def encodable(name: str) -> str:
    """Return a file name as text that every output takes: bytes that are not UTF-8 become escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _hash_file(source: str, *, ocr: bool) -> str:
    """Return the hash by which the file is recognised as unchanged. Raises ParseError."""
    try:
        if not Path(source).is_file():
            raise ParseError(f"{source}: not a regular file: name a file or a folder")
        with open(source, "rb") as file:
            return source_hash_of(file, ocr=ocr)
    except FileNotFoundError as exc:
        raise ParseError(f"{source}: vanished before it could be read") from exc
    except OSError as exc:
        raise ParseError(f"{source}: cannot be read ({exc.strerror or exc}): check its permissions") from exc
