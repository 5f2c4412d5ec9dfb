"""The two paths of a request to ingest a document, and what they take and give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from embedfleet.document_metadata import Metadata
from embedfleet.queue_schemas import ChunkingConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Path(StrEnum):
    """`sync`: the old path, which was there before the fleet. `async`: the fleet."""

    SYNC = "sync"
    ASYNC = "async"

    @property
    def other(self) -> Path:
        return Path.ASYNC if self is Path.SYNC else Path.SYNC


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """A version of a document that is to be chunked, embedded and stored.

    `tenant` and `media_id` name the document. Where a field is None, the path decides by its own settings.
    """

    tenant: str
    media_id: str
    content: str
    content_type: str = "text"
    model: str | None = None
    chunking_config: ChunkingConfig | None = None
    title: str | None = None
    source: str | None = None
    metadata: Metadata | None = None
    priority: int = 50

    def __post_init__(self) -> None:
        if not isinstance(self.media_id, str):
            object.__setattr__(self, "media_id", str(self.media_id))


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk that a path has stored. `vector` is float32 (dim,), or None if the path does not tell it."""

    chunk_id: str
    start: int
    end: int
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """How a request ended.

    `visible` says whether readers see the document now: False if the path has accepted it and goes on with
    it. `chunks` is the number of chunks that were stored so far. `stored` has these chunks, or is None if the
    path does not tell them. `job_id` is the job of the fleet. `path` is the path that answered: the router
    sets it.
    """

    chunks: int
    visible: bool = True
    stored: Sequence[StoredChunk] | None = None
    job_id: str | None = None
    path: Path | None = None


IngestFunction = Callable[[IngestRequest], Awaitable[IngestResult] | IngestResult]
"""A path in its simplest form: a coroutine function, or a plain function, which runs in a thread."""


@runtime_checkable
class RemovingPath(Protocol):
    """A path that can take a document back. The router calls it as a function too, to ingest.

    A path without `remove` is never asked to take a document back: then what it stored for a document that
    moved to the other path stays there.
    """

    async def __call__(self, request: IngestRequest) -> IngestResult:
        """Ingest the document. On return with `visible`, readers of this path see it and no older version."""
        ...

    async def remove(self, tenant: str, media_id: str) -> None:
        """Remove the document with all its versions, also one that is under way.

        On return, readers of this path do not see it, and will not until the next call. A document that is
        not there is ignored.
        """
        ...


@runtime_checkable
class FollowingPath(Protocol):
    """A path that may answer before readers see the document, and can be asked afterwards."""

    async def is_visible(self, tenant: str, job_id: str) -> bool | None:
        """Return whether readers see what the job stored, or a newer version.

        False: it is still under way. None: it ended without being seen, or is unknown.
        """
        ...


@runtime_checkable
class ShowingPath(Protocol):
    """A path that can be asked for a document.

    Before a kept removal is done, the other path is asked whether it has the document. So the only version is
    never removed, whatever another process did while SQL was away.

    A path that cannot be asked leaves one gap: during an outage of SQL, another process may ingest a document
    whose removal is kept, and the removal may then take away that version.
    """

    async def shows(self, tenant: str, media_id: str) -> bool:
        """Return whether readers of this path see a version of the document."""
        ...
