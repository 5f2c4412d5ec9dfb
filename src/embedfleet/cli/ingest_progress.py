"""The progress of `embedfleet ingest`, on stderr."""

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
# The sums take 0.1 s for 100,000 files.
_SECONDS_OF_A_BAR = 1.0
SECONDS_BETWEEN_LINES = 10.0


class ProgressView:
    """Shows files submitted, chunks stored, chunks per second and the time left. Shows nothing if `quiet`.

    On a terminal it is a bar. Elsewhere it is a line every `SECONDS_BETWEEN_LINES`.
    """

    def __init__(self, files: int, *, quiet: bool, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, quiet=quiet)
        self._quiet = quiet
        self._number_of_files = files
        self._files_done = 0
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
    def seconds_between_looks(self) -> float | None:
        """How often `show` should be called; None: never."""
        if self._quiet:
            return None
        return SECONDS_BETWEEN_LINES if self._progress.disable else _SECONDS_OF_A_BAR

    def file_done(self) -> None:
        self._files_done += 1
        if not self._progress.disable:
            self._progress.advance(self._files)

    def show(self, jobs: JobTotals) -> None:
        """Show the sums of all jobs. The rate is of the chunks stored since the first call."""
        stored = jobs.chunks_stored + jobs.chunks_dead
        if self._first is None:
            self._first = (monotonic(), stored)
        since, stored_before = self._first
        rate = (stored - stored_before) / max(monotonic() - since, 1e-6)
        expected = expected_chunks(jobs)
        if self._progress.disable:
            files = f"{self._files_done:,} of {self._number_of_files:,} files submitted"
            self.note(f"{files}, {stored:,} of about {expected:,} chunks stored ({rate:.0f} chunks/s)")
        else:
            self._progress.update(
                self._chunks, completed=stored, total=expected or None, rate=f"{rate:.0f} chunks/s"
            )


def expected_chunks(jobs: JobTotals) -> int:
    """How many chunks the jobs will have: exact if they are sealed, otherwise estimated."""
    known = jobs.sealed_chunks
    per_chunk = jobs.sealed_chars / known if known else _ESTIMATED_CHARS_PER_CHUNK
    return known + max(jobs.unsealed_chunks, round(jobs.unsealed_chars / per_chunk))
