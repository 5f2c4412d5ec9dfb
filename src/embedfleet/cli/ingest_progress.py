"""The progress bar of `embedfleet ingest`, on stderr."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embedfleet.printable import harmless
from embedfleet.queue_schemas import JobTotals

# The number of chunks is estimated from the size of a document until all of it is chunked.
_ESTIMATED_CHARS_PER_CHUNK = 700


class ProgressView:
    """Shows files submitted, chunks stored, chunks per second and the time left. Shows nothing if `quiet`."""

    def __init__(self, files: int, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._files = self._progress.add_task("files ", total=files, rate="")
        self._chunks = self._progress.add_task("chunks", total=None, rate="")
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(harmless(message), highlight=False, soft_wrap=True, markup=False)

    @property
    def visible(self) -> bool:
        """Whether there is a bar."""
        return not self._progress.disable

    def file_done(self) -> None:
        if self.visible:
            self._progress.advance(self._files)

    def show(self, jobs: JobTotals) -> None:
        """Show the sums of all jobs. The rate is of the chunks stored since the first call."""
        stored = jobs.chunks_stored + jobs.chunks_dead
        if self._first is None:
            self._first = (monotonic(), stored)
        since, stored_before = self._first
        rate = (stored - stored_before) / max(monotonic() - since, 1e-6)
        self._progress.update(
            self._chunks, completed=stored, total=expected_chunks(jobs) or None, rate=f"{rate:.0f} chunks/s"
        )


def expected_chunks(jobs: JobTotals) -> int:
    """How many chunks the jobs will have: exact if they are sealed, otherwise estimated."""
    known = jobs.sealed_chunks
    per_chunk = jobs.sealed_chars / known if known else _ESTIMATED_CHARS_PER_CHUNK
    return known + max(jobs.unsealed_chunks, round(jobs.unsealed_chars / per_chunk))
