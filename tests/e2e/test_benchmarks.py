"""The fleet's benchmarks run, in their short form, and leave figures. None is judged by its time here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import contest
import peers
import pytest

from support.hangs import HANG_SECONDS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("command", "figure"),
    [
        pytest.param("adopting.py --short", "vectors_changed", marks=pytest.mark.slow),
        ("autoscaling.py --short", "figures"),
        pytest.param("broker_costs.py --short", "server_us", marks=pytest.mark.slow),
        pytest.param("cascade.py --short", "two models", marks=pytest.mark.slow),
        pytest.param("fleet_costs.py --short", "postgresql_log_bytes", marks=pytest.mark.slow),
        pytest.param("filters.py --short", "recall_percent", marks=pytest.mark.slow),
        pytest.param("embeddings_api.py --short", "requests_per_second", marks=pytest.mark.slow),
        pytest.param("fairness.py --broker redis --short", "figures", marks=pytest.mark.slow),
        pytest.param(
            "gpu.py --shapes tiny --dtype float32 --device cpu --chunks 60 --rounds 1",
            "pipeline, fleet",
            marks=pytest.mark.slow,
        ),
        pytest.param("model_switch.py --short", "p95_times_before", marks=pytest.mark.slow),
        pytest.param("interactive.py --short", "query_beside_bulk", marks=pytest.mark.slow),
        pytest.param("ray_launcher.py --rounds 1 --chunks 500", "node_loss", marks=pytest.mark.slow),
        pytest.param("pgvector_index.py --rows 12000", "recall_at_10", marks=pytest.mark.slow),
        pytest.param("scaling_out.py --broker redis --short", "16 workers", marks=pytest.mark.slow),
        pytest.param("small_documents.py --short", "times_as_fast_as_embedded", marks=pytest.mark.slow),
        pytest.param("scale.py --short", "weighted_jain", marks=pytest.mark.slow),
        pytest.param("shares.py --short", "largest_error_percent", marks=pytest.mark.slow),
        pytest.param("streams.py --short", "events_lost", marks=pytest.mark.slow),
        pytest.param("shutdown.py --short", "exit_seconds_most", marks=pytest.mark.slow),
        pytest.param(
            "traffic_router.py --requests 200 --rounds 2", "both_remove_50_percent", marks=pytest.mark.slow
        ),
    ],
)
def test_it_runs_and_leaves_its_figures(tmp_path: Path, command: str, figure: str) -> None:
    script, *arguments = command.split()
    subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        env=os.environ | {"BENCHMARK_RESULTS": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )
    (report,) = tmp_path.glob("*.json")
    assert figure in json.dumps(json.loads(report.read_text()))


def test_a_contestant_runs_apart_and_all_it_says_is_in_its_store() -> None:
    run = contest.one_run(peers.script_of("static", 20_000), contest.OURS)
    assert run["vectors"] == run["warm_up_chunks"] + run["chunks"]
    assert run["chunks"] > 10


def test_a_contestant_that_cannot_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(contest.CannotRun, match="invalid choice: 'nobody'"):
        contest.run_apart(peers.script_of("static", 20_000), "nobody", tmp_path)
