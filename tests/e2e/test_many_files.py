"""`embedfleet ingest` with thousands of small files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from support.command import Command

_FEW = 1_000
_MANY = 4_000
# A file that waits for its turn is a path, an outcome and a job's id, and the workers hold some of each. The
# description of a job as an object and as text takes more than twice as much.
_BYTES_PER_FILE = 6_000


def _peak_bytes(command: Command, folder: Path, files: int) -> int:
    """The peak memory of an ingest of so many notes; its one JSON document is checked."""
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"{number:05}.txt").write_text(f"Note {number} speaks of thing {number * 7919}.\n")
    output = folder.with_suffix(".json")
    with (
        output.open("w") as stdout,
        command.start("ingest", folder, "--json", stdout=stdout) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    document = json.loads(output.read_text())
    assert document["totals"]["ingested"] == files
    assert [file["source"] for file in document["files"]] == sorted(map(str, folder.iterdir()))
    assert all(file["job"]["status"] == "completed" for file in document["files"])
    return usage.ru_maxrss * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count the peak in other units")
@pytest.mark.slow
def test_memory_grows_little_with_the_number_of_files(tmp_path: Path) -> None:
    few, many = (
        _peak_bytes(Command(tmp_path / name), tmp_path / name / "notes", files)
        for name, files in (("few", _FEW), ("many", _MANY))
    )
    assert (many - few) / (_MANY - _FEW) < _BYTES_PER_FILE
