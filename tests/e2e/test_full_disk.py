"""A disk that fills up in the middle: one line, exit code 1, and the next run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import Command
from support.system import paragraphs

# A small file system of its own; made larger between the two runs.
_SCRIPT = """
mount -t tmpfs -o size=12m none "$DATA" || exit 99
"$PYTHON" -m embedfleet ingest "$DOCS" > "$OUT/first.out" 2> "$OUT/first.err"; echo $? > "$OUT/first.code"
mount -o remount,size=400m "$DATA"
"$PYTHON" -m embedfleet ingest "$DOCS" --json > "$OUT/second.out" 2> "$OUT/second.err"
echo $? > "$OUT/second.code"
"$PYTHON" -m embedfleet search "file3 paragraph 5" -k 1 --json > "$OUT/search.out"
"""


def test_a_full_disk_stops_the_run_in_one_line_and_the_next_completes_it(
    command: Command, tmp_path: Path
) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    for folder in (docs, out, command.data_dir):
        folder.mkdir()
    for n in range(20):
        (docs / f"{n}.txt").write_text(paragraphs(f"file{n}", 300))
    names = {"DATA": command.data_dir, "DOCS": docs, "OUT": out, "PYTHON": Path(sys.executable)}
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _SCRIPT],
        env=command.environment({name: str(value) for name, value in names.items()}),
        capture_output=True,
        text=True,
    )
    if ran.returncode in (1, 99) and not (out / "first.code").exists():
        pytest.skip(f"user namespaces are not allowed here: {ran.stderr}")

    assert (out / "first.code").read_text() == "1\n"
    (error,) = [line for line in (out / "first.err").read_text().splitlines() if line.startswith("error:")]
    assert str(command.data_dir) in error
    assert "free" in error
    assert "Traceback" not in (out / "first.err").read_text()

    assert (out / "second.code").read_text() == "0\n", (out / "second.err").read_text()
    totals = json.loads((out / "second.out").read_text())["totals"]
    assert totals["ingested"] + totals["unchanged"] == 20
    (hit,) = json.loads((out / "search.out").read_text())["hits"]
    assert hit["source"].startswith(str(docs))
