"""Files to jobs: find them, skip what is unchanged, parse the rest, submit.

One bad file never stops the others: whatever happens to a file is an outcome, not an exception.
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
    """What was done with a file; the job tells what comes of it."""

    SUBMITTED = "submitted"
    RESUMED = "resumed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """`error` is set exactly when the state is FAILED; `job_id` when there is a job to look at."""

    source: str
    state: FileState
    job_id: str | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """For whom and how. `globs` replace the default choice of files in folders (every known format)."""

    tenant: str
    tier: UserTier
    model: str | None = None
    chunking: ChunkingConfig | None = None
    globs: Sequence[str] = ()
    priority: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """What the given paths hold.

    `problems`: (path, why) for those that cannot be used at all. `barren`: the folders in which nothing is to
    be taken, and why; a mistake, unless the wish is to prune what they held.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    barren: list[tuple[Path, str]] = field(default_factory=list)


def find_files(paths: Iterable[Path], globs: Sequence[str] = ()) -> Found:
    """Every file below the paths, each once, sorted within its folder.

    In folders only known formats (or the globs' choice) are taken and hidden names are left out; a file
    named outright is always taken. Links to folders are not followed.
    """
    found = Found()
    seen: set[str] = set()
    for given in paths:
        path = Path(os.path.abspath(given.expanduser()))
        if path.is_dir():
            found.folders.append(path)
            candidates = list(_walk(path, globs, found.problems))
            if not candidates:
                found.barren.append((path, _why_barren(globs)))
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


def _why_barren(globs: Sequence[str]) -> str:
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
    """The document id of a file: of its path, so that a changed file is a new version, not a new document."""
    return f"file-{hashlib.sha256(source.encode()).hexdigest()[:24]}"


class Ingest:
    """Submits files as jobs of one tenant."""

    def __init__(self, *, jobs: EmbeddingJobManager, parser: ParserSandbox, options: IngestOptions) -> None:
        self._manager = jobs
        self._jobs = jobs.of(options.tenant)
        self._parser = parser
        self._options = options

    async def submit(self, files: Iterable[Path]) -> AsyncIterator[FileOutcome]:
        """One outcome a file, in order, as soon as it is known.

        Raises only what makes going on pointless: StorageFull, ConfigError, DatabaseUnavailable.
        """
        for path in files:
            source = str(path)
            try:
                yield await self._submit_file(path, source)
            except (InputError, QuotaExceeded) as exc:
                yield FileOutcome(printable(source), FileState.FAILED, error=str(exc))

    async def prune(self, folders: Iterable[Path]) -> AsyncIterator[FileOutcome]:
        """Delete the tenant's documents that came from these folders and whose files are gone."""
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
        made = await self._jobs.find_job(
            media_id=media_id,
            source_hash=source_hash,
            chunking_config=options.chunking,
            model=options.model,
        )
        if made is not None and made.status is JobStatus.COMPLETED:
            return FileOutcome(source, FileState.UNCHANGED, job_id=made.job_id)
        if made is not None:
            if made.status.terminal:
                await self._jobs.retry(made.job_id)
            return FileOutcome(source, FileState.RESUMED, job_id=made.job_id)
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
    """A file name as text; bytes that are not UTF-8 show as backslash escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _without_file(known: Iterable[str]) -> list[str]:
    return sorted(source for source in known if not os.path.lexists(source))


def _hash_file(path: Path) -> str:
    """Fingerprint of the bytes and of the parser: a new parser reads the file anew."""
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
