"""Whatever ends an ingest, the next one goes on where it stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.command import Command, finish

_FILES = 150


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
