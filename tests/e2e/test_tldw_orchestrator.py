"""tldw's own settings file and its orchestrator class start the workers."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.command import Command, finish
from support.import_path import import_path

_CHECKOUT = Path(__file__).resolve().parents[2]
_WORKERS = """
worker_pools:
  chunking: {worker_type: chunking, num_workers: 2, poll_interval_ms: 100}
  embedding: {worker_type: embedding, num_workers: 1}
enable_monitoring: false
"""
_BY_CLASS = """
import asyncio
from app.core.Embeddings.job_manager import JobStatus
from app.core.Embeddings.worker_config import OrchestrationConfig
from app.core.Embeddings.worker_orchestrator import WorkerOrchestrator

async def main():
    orchestrator = WorkerOrchestrator(OrchestrationConfig.from_yaml("workers.yaml"))
    started = asyncio.create_task(orchestrator.start())
    while not orchestrator.running:
        await asyncio.sleep(0.01)
    jobs = orchestrator.job_manager
    job_id = await jobs.create_job(1, "user", "free", "A text to embed.")
    while (await jobs.get_job_status(job_id)).status not in ["completed", "failed"]:
        await asyncio.sleep(0.01)
    info = await jobs.get_job_status(job_id)
    await orchestrator.stop()
    await started
    print(info.status, info.progress_percentage, orchestrator.running)

asyncio.run(main())
"""


@pytest.mark.slow  # the next test starts the same workers by the same file
def test_the_documented_command_takes_tldws_own_file(command: Command) -> None:
    (command.folder / "workers.yaml").write_text(_WORKERS)
    process = command.start(
        "--config",
        "workers.yaml",
        module="app.core.Embeddings.worker_orchestrator",
        env={"PYTHONPATH": import_path(_CHECKOUT)},
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready"):
            break
    process.send_signal(signal.SIGTERM)
    result = finish(process)
    assert result.code == 0, result.stderr
    assert any("2 chunking, 1 embedding" in line for line in said)
    assert "no counterpart: `worker_pools.chunking.poll_interval_ms`" in result.stderr


def test_the_class_starts_the_workers_and_stops_them(command: Command) -> None:
    (command.folder / "workers.yaml").write_text(_WORKERS)
    (command.folder / "example.py").write_text(_BY_CLASS)
    result = finish(command.start(module="example", env={"PYTHONPATH": import_path(_CHECKOUT)}))
    assert result.code == 0, result.stderr
    assert result.stdout == "completed 100.0 False\n"
    assert "poll_interval_ms" in result.stderr
    assert "Traceback" not in result.stderr
