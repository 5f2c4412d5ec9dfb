"""What becomes of a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedfleet.account import NOTHING_SAID, Account


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


def failed(source: str, error: str) -> FileOutcome:
    """Return the outcome of a file that failed for this reason."""
    return FileOutcome(encodable(source), FileState.FAILED, error=error)


def encodable(name: str) -> str:
    """Return a file name as text that every output takes: bytes that are not UTF-8 become escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
