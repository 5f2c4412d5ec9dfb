"""Decides which documents go because their files are gone.

A folder that is empty may be a share that is not mounted, and a job of every night must not delete all that
it held. So a plan that looks like that is refused, unless the caller says that all may go.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedfleet.queue_schemas import DocumentInfo

# Up to this number may go at once, whatever share they are: a person who deletes a few files means it.
_FEW_DOCUMENTS = 4
# If more than this share of a folder's documents would go, the folder was probably emptied by accident.
_LARGEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class FileDocument:
    """A document that came from a file."""

    source: str
    media_id: str


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What pruning a folder deletes. `documents` is the number of all documents below it.

    `refusal` says why nothing may be deleted, unless the caller insists; None if the plan is ordinary.
    """

    folder: Path
    documents: int
    gone: Sequence[FileDocument]
    refusal: str | None


class Documents(Protocol):
    """The documents of one tenant."""

    def all_documents(self, *, prefix: str = "") -> AsyncIterator[DocumentInfo]:
        """Yield all documents that are not deleted and whose source starts with `prefix`."""
        ...


async def plan_pruning(
    jobs: Documents, folder: Path, *, holds_files: bool, unlisted: Collection[Path]
) -> PrunePlan:
    """Find the documents below the folder whose files no longer exist, those of failed jobs included.

    `holds_files`: whether the folder has any file that an ingest takes. What is below a folder in `unlisted`,
    which could not be listed, is not gone: it cannot be seen now.
    """
    below = jobs.all_documents(prefix=os.path.join(folder, ""))
    known = [FileDocument(one.source, one.media_id) async for one in below if one.source is not None]
    gone = await asyncio.to_thread(_without_file, known, unlisted)
    return PrunePlan(folder, len(known), gone, why_refused(len(known), len(gone), holds_files=holds_files))


def why_refused(documents: int, gone: int, *, holds_files: bool) -> str | None:
    """Return why `gone` of a folder's `documents` should not be deleted; None if they may be."""
    if not gone:
        return None
    if not holds_files:
        return (
            f"no file is there, but {documents} documents came from it: nothing was deleted, as a share that "
            "is not mounted looks the same"
        )
    if gone > _FEW_DOCUMENTS and gone > documents * _LARGEST_SHARE:
        return f"{gone} of the {documents} documents that came from it have no file now: nothing was deleted"
    return None


def _without_file(known: Iterable[FileDocument], unlisted: Collection[Path]) -> list[FileDocument]:
    """Return those whose file does not exist, by source. This blocks."""
    hidden = tuple(os.path.join(folder, "") for folder in unlisted)
    seen = sorted(known, key=lambda one: one.source)
    return [one for one in seen if not one.source.startswith(hidden) and _is_gone(one.source)]


def _is_gone(source: str) -> bool:
    try:
        os.lstat(source)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # it cannot be looked at now: no permission, or a disk that fails
        return False
    return False
