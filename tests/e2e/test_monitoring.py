"""A real Prometheus reads a real orchestrator, and a supervisor asks whether it lives."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command import Command
from support.hangs import HANG_SECONDS, eventually
from support.loopback_server import free_port

PROMETHEUS = shutil.which("prometheus")


@contextmanager
def orchestrator(command: Command, port: int) -> Iterator[None]:
    process = command.start("serve-workers", env={"EMBEDFLEET_MONITORING__METRICS_PORT": str(port)})
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/readyz"), what="ready")
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """Scrapes the target every second; yields the port of its API."""
    port = free_port()
    job = {"job_name": "embedfleet", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    assert PROMETHEUS is not None
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), what="Prometheus")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=HANG_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def value(port: int, query: str) -> float | None:
    """The one value of an instant query; None while there is none."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=HANG_SECONDS) as answer:
        found = json.load(answer)["data"]["result"]
    return float(found[0]["value"][1]) if found else None


@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on PATH: install Debian's package")
def test_prometheus_scrapes_every_kind_of_series(command: Command, corpus: Path, tmp_path: Path) -> None:
    target = free_port()
    with orchestrator(command, target), prometheus(tmp_path, target) as port:
        assert command.run("ingest", corpus).code == 0
        completed = 'embedding_jobs_total{status="completed"}'
        eventually(lambda: value(port, completed) == 2, what="the count of jobs")
        assert value(port, 'up{job="embedfleet"}') == 1
        assert value(port, 'embedding_worker_count{worker_type="embedding"}') == 1
        assert value(port, 'embedding_queue_depth{stage="storage"}') == 0
        quantile = (
            'histogram_quantile(0.5, sum by (le) (embedding_stage_latency_seconds_bucket{stage="embedding"}))'
        )
        assert 0 < (value(port, quantile) or 0) < 600
        assert value(port, "embedding_leader") == 1


def test_health_tells_a_supervisor_what_to_do(command: Command) -> None:
    port = free_port()
    with orchestrator(command, port):
        assert answers(f"http://127.0.0.1:{port}/healthz")
    assert not answers(f"http://127.0.0.1:{port}/healthz")
