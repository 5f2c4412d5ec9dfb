"""The progress of an ingest where there is no terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from embedfleet.cli.ingest_progress import SECONDS_BETWEEN_LINES, ProgressView
from embedfleet.queue_schemas import JobTotals

TOTALS = JobTotals(
    jobs=2,
    ended=1,
    chunks_stored=30,
    chunks_dead=0,
    sealed_chunks=40,
    sealed_chars=4000,
    unsealed_chunks=0,
    unsealed_chars=0,
)


def test_without_a_terminal_it_is_a_plain_line_now_and_then() -> None:
    written = StringIO()
    with ProgressView(5, quiet=False, console=Console(file=written, width=20)) as view:
        assert view.seconds_between_looks == SECONDS_BETWEEN_LINES
        view.file_done()
        view.file_done()
        view.show(TOTALS)
    assert written.getvalue() == ("2 of 5 files submitted, 30 of about 40 chunks stored (0 chunks/s)\n")


def test_beside_json_it_is_silent() -> None:
    with ProgressView(5, quiet=True) as view:
        assert view.seconds_between_looks is None
