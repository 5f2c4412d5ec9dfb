"""Makes jobs from files: finds files, skips unchanged ones, parses the others and submits them.

One bad file never stops the others: an error of a file is an outcome, not an exception.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from embedfleet.errors import InputError, ParseError, QuotaExceeded
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.parsing.formats import PARSER_VERSION, is_supported
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import ChunkingConfig, JobStatus, UserTier

_HASH_BLOCK_BYTES = 1 << 20


class FileState(StrEnum):
    """What the ingest did with a file. The file's job shows its further progress."""

    SUBMITTED = "submitted"
    RESUMED = "resumed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The result of one file.

    `error` is set exactly if the state is FAILED. `job_id` is set if the file has a job.
    """

    source: str
    state: FileState
    job_id: str | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """The options of an ingest. `globs` choose files in folders; without any, all known formats are taken."""

    tenant: str
    tier: UserTier
    model: str | None = None
    chunking: ChunkingConfig | None = None
    globs: Sequence[str] = ()
    priority: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """The files and folders at the given paths.

    `problems`: (path, reason) for paths that cannot be used. `empty_folders`: (path, reason) for folders in
    which no file is taken. That is probably a mistake, unless the user prunes documents whose files are gone.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    empty_folders: list[tuple[Path, str]] = field(default_factory=list)


def find_files(paths: Iterable[Path], globs: Sequence[str] = ()) -> Found:
    """Find every file at or below the paths, each once, sorted within its folder.

    In a folder, only known formats are taken, or the files that match a glob; hidden files and folders are
    left out, and links to folders are not followed. A file that is named itself is always taken.
    """
    found = Found()
    seen: set[str] = set()
    for given in paths:
        path = Path(os.path.abspath(given.expanduser()))
        if path.is_dir():
            found.folders.append(path)
            candidates = list(_walk(path, globs, found.problems))
            if not candidates:
                found.empty_folders.append((path, _reason_for_no_file(globs)))
        elif os.path.lexists(path):
            candidates = [path]
        else:
            found.problems.append((path, "no such file or folder: check the spelling"))
            continue
        for candidate in candidates:
            if str(candidate) not in seen:
                seen.add(str(candidate))
                found.files.append(candidate)
    return found


def _reason_for_no_file(globs: Sequence[str]) -> str:
    if globs:
        return f"no file in it matches {' or '.join(globs)}: change the pattern"
    return "no file of a known format in it: name files outright, or choose them with a pattern"


def _walk(folder: Path, globs: Sequence[str], problems: list[tuple[Path, str]]) -> Iterator[Path]:
    def unreadable(exc: OSError) -> None:
        problems.append((Path(exc.filename or folder), f"cannot be listed ({exc.strerror})"))

    for where, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(where, name)
            if not name.startswith(".") and _wanted(path, folder, globs):
                yield path


def _wanted(path: Path, folder: Path, globs: Sequence[str]) -> bool:
    if not globs:
        return is_supported(path)
    relative = path.relative_to(folder).as_posix()
    return any(fnmatch.fnmatch(relative, glob) or fnmatch.fnmatch(path.name, glob) for glob in globs)


def media_id_of(source: str) -> str:
    """Return the media id of a file. It is made from the path, so a changed file stays the same document."""
    return f"file-{hashlib.sha256(source.encode()).hexdigest()[:24]}"


class Ingest:
    """Submits files as jobs of one tenant."""

    def __init__(self, *, jobs: EmbeddingJobManager, parser: ParserSandbox, options: IngestOptions) -> None:
        self._manager = jobs
        self._jobs = jobs.of(options.tenant)
        self._parser = parser
        self._options = options

    async def submit(self, files: Iterable[Path]) -> AsyncIterator[FileOutcome]:
        """Submit the files. Yields the outcome of each, in order, as soon as it is known.

        Raises only errors that would hit every further file: StorageFull, ConfigError, DatabaseUnavailable.
        """
        for path in files:
            source = str(path)
            try:
                yield await self._submit_file(path, source)
            except (InputError, QuotaExceeded) as exc:
                yield FileOutcome(printable(source), FileState.FAILED, error=str(exc))

    async def prune(self, folders: Iterable[Path]) -> AsyncIterator[FileOutcome]:
        """Delete the tenant's documents that came from these folders and whose files no longer exist."""
        for folder in folders:
            known = await self._jobs.list_sources(prefix=os.path.join(folder, ""))
            gone = await asyncio.to_thread(_without_file, known)
            for source in gone:
                await self._jobs.delete_document(media_id=known[source])
                yield FileOutcome(source, FileState.PRUNED)

    async def _submit_file(self, path: Path, source: str) -> FileOutcome:
        options = self._options
        _refuse_undecodable_name(source)
        media_id = media_id_of(source)
        source_hash = await asyncio.to_thread(_hash_file, path)
        job = await self._jobs.find_job(
            media_id=media_id,
            source_hash=source_hash,
            chunking_config=options.chunking,
            model=options.model,
        )
        if job is not None and job.status is JobStatus.COMPLETED:
            return FileOutcome(source, FileState.UNCHANGED, job_id=job.job_id)
        if job is not None:
            if job.status.terminal:
                await self._jobs.retry(job.job_id)
            return FileOutcome(source, FileState.RESUMED, job_id=job.job_id)
        try:
            parsed = await self._parser.parse(path)
        except ParseError as exc:
            job_id = await self._jobs.record_unreadable(
                media_id=media_id,
                user_tier=options.tier,
                reason=str(exc),
                model=options.model,
                source=source,
                source_hash=source_hash,
            )
            return FileOutcome(source, FileState.FAILED, job_id=job_id, error=str(exc))
        job_id = await self._manager.create_job(
            media_id=media_id,
            user_id=options.tenant,
            user_tier=options.tier,
            content=parsed.text,
            content_type=parsed.content_type,
            chunking_config=options.chunking,
            priority=options.priority,
            model=options.model,
            source=source,
            source_hash=source_hash,
        )
        return FileOutcome(source, FileState.SUBMITTED, job_id=job_id, warnings=parsed.warnings)


def _refuse_undecodable_name(source: str) -> None:
    try:
        source.encode()
    except UnicodeEncodeError as exc:
        raise ParseError(f"{printable(source)}: its name is not valid UTF-8: rename it") from exc


def printable(name: str) -> str:
    """Return a file name as printable text: bytes that are not UTF-8 become backslash escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _without_file(known: Iterable[str]) -> list[str]:
    return sorted(source for source in known if not os.path.lexists(source))


def _hash_file(path: Path) -> str:
    """Return the SHA-256 of the parser's version and the file: a new parser reads the file again."""
    digest = hashlib.sha256(f"parser {PARSER_VERSION}\n".encode())
    try:
        if not path.is_file():
            raise ParseError(f"{path}: not a regular file: name a file or a folder")
        with path.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError as exc:
        raise ParseError(f"{path}: vanished before it could be read") from exc
    except OSError as exc:
        raise ParseError(f"{path}: cannot be read ({exc.strerror or exc}): check its permissions") from exc
    return digest.hexdigest()
