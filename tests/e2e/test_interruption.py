"""Whatever ends an ingest, the next one goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from support.command import Command, finish
from support.hangs import HANG_SECONDS

_FILES = 900  # work for a second after the first are done; a search returns up to 1,000
_SUMS = {"account", "skipped", "budget"}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(_FILES):
        (folder / f"{number:03}.txt").write_text(f"Document {number} speaks of thing {number * 7919}.\n")
    return folder


def _searchable(command: Command) -> list[str]:
    hits = command.typed("search", "document", "-k", "1000", "--json").document["hits"]
    return sorted(hit["source"] for hit in hits)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stop_is_clean_and_the_next_run_embeds_only_the_rest(
    command: Command, many: Path, number: signal.Signals
) -> None:
    process = command.start("ingest", many, "--json")
    command.wait_for_completed(process, 3)
    os.killpg(process.pid, number)
    stopped = finish(process)
    assert (stopped.code, stopped.stderr) == (130, "")
    assert stopped.document["interrupted"] is True
    done = stopped.document["totals"]
    assert 3 <= done["ingested"] < _FILES

    rest = command.run("ingest", many, "--json")
    assert rest.code == 0
    totals = rest.document["totals"]
    assert totals["ingested"] + totals["unchanged"] == _FILES
    assert totals["unchanged"] >= done["ingested"]
    assert _searchable(command) == sorted(map(str, many.iterdir()))


def test_a_killed_ingest_loses_and_doubles_nothing(command: Command, many: Path) -> None:
    process = command.start("ingest", many)
    command.wait_for_completed(process, 3)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert command.run("ingest", many).code == 0
    assert _searchable(command) == sorted(map(str, many.iterdir()))


def test_the_first_files_are_told_while_the_work_goes_on_and_a_stop_leaves_one_whole_document(
    command: Command, many: Path
) -> None:
    with command.start("ingest", many, "--json") as process:
        assert process.stdout is not None
        # The head of the document, and the first entry.
        early = "".join(process.stdout.readline() for _ in range(5))
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        document = json.loads(early + process.stdout.read())
    assert set(document) == {"schema_version", "tenant", "interrupted", "totals", "files", "errors", *_SUMS}
    sources = [file["source"] for file in document["files"]]
    assert sources == sorted(map(str, many.iterdir()))[: len(sources)]
    totals = document["totals"]
    assert totals["files"] == totals["ingested"] + totals["unfinished"] == len(sources)


def test_a_reader_that_ends_early_does_not_end_the_work(command: Command, many: Path) -> None:
    with command.start("ingest", many, "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(HANG_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert command.jobs_completed() == _FILES
