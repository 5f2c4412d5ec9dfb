"""The fleet's benchmarks run, in their short form, and leave figures. None is judged by its time here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("command", "figure"),
    [
        ("autoscaling.py --short", "figures"),
        ("fairness.py --broker redis --short", "figures"),
        ("interactive.py --short", "query_beside_bulk"),
        ("peers.py --short", "embedfleet, store_documents: false"),
        ("scaling_out.py --broker redis --short", "16 workers"),
        ("shutdown.py --short", "exit_seconds_most"),
    ],
)
def test_it_runs_and_leaves_its_figures(tmp_path: Path, command: str, figure: str) -> None:
    script, *arguments = command.split()
    subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        env=os.environ | {"BENCHMARK_RESULTS": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=110,
    )
    (report,) = tmp_path.glob("*.json")
    assert figure in json.dumps(json.loads(report.read_text()))
