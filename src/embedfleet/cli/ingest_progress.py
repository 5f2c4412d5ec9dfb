"""The progress bar of `embedfleet ingest`, on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embedfleet.queue_schemas import JobInfo

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
        self._started = monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, highlight=False, soft_wrap=True, markup=False)

    def file_done(self) -> None:
        self._progress.advance(self._files)

    def show(self, jobs: Sequence[JobInfo]) -> None:
        stored = sum(job.progress.chunks_stored + job.progress.chunks_dead for job in jobs)
        rate = stored / max(monotonic() - self._started, 1e-6)
        self._progress.update(
            self._chunks, completed=stored, total=expected_chunks(jobs) or None, rate=f"{rate:.0f} chunks/s"
        )


def expected_chunks(jobs: Sequence[JobInfo]) -> int:
    """How many chunks the jobs will have: exact if they are sealed, otherwise estimated."""
    sealed = [job for job in jobs if job.progress.sealed]
    known = sum(job.progress.chunks_total for job in sealed)
    chars = sum(job.chars for job in sealed)
    per_chunk = chars / known if known else _ESTIMATED_CHARS_PER_CHUNK
    estimated = sum(
        max(job.progress.chunks_total, round(job.chars / per_chunk))
        for job in jobs
        if not job.progress.sealed and not job.status.terminal
    )
    return known + estimated
