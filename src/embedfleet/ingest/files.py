"""The files of an ingest: found below the given paths, hashed, and in batches of small ones."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedfleet.document_metadata import Metadata
from embedfleet.errors import ParseError
from embedfleet.file_metadata import described_by, metadata_of_file
from embedfleet.ingest.outcomes import FileOutcome, encodable, failed
from embedfleet.parsing.formats import is_supported
from embedfleet.parsing.sandbox import StrPath
from embedfleet.parsing.source_hash import source_hash_of

# Files go through the parser and into SQL in batches, up to this many files and bytes. What a batch costs as
# a whole (a turn of the pipe, a transaction) is then far less than its files cost, and a batch of notes is
# submitted within a tenth of a second.
BATCH_FILES = 64
BATCH_BYTES = 1 << 20
_HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class File:
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


def batches_of(files: Iterable[StrPath]) -> Iterator[list[str]]:
    """Split the files into batches of small ones. A large file is a batch of its own. This blocks."""
    batch: list[str] = []
    batch_bytes = 0
    for file in files:
        source = os.fspath(file)
        size = _size_of(source)
        if batch and (len(batch) == BATCH_FILES or batch_bytes + size > BATCH_BYTES):
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


def hash_next(batches: Iterator[list[str]], ocr: bool, metadata: Metadata | None) -> list[File | FileOutcome]:
    """Hash the files of the next batch. Returns none after the last batch. This blocks."""
    return [_hashed(source, metadata, ocr=ocr) for source in next(batches, [])]


def _hashed(source: str, metadata: Metadata | None, *, ocr: bool) -> File | FileOutcome:
    try:
        _refuse_undecodable_name(source)
        digest = _hash_file(source, ocr=ocr)
        return File(source, media_id_of(source), digest, metadata=metadata_of_file(source, metadata))
    except ParseError as exc:
        return failed(source, str(exc))


def _refuse_undecodable_name(source: str) -> None:
    try:
        source.encode()
    except UnicodeEncodeError as exc:
        raise ParseError(f"{encodable(source)}: its name is not valid UTF-8: rename it") from exc


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
