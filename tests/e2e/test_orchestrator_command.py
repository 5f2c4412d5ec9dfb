"""The orchestrator as a process of its own, and the commands beside it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import Command, finish
from support.import_path import import_path

_CHECKOUT = Path(__file__).resolve().parents[2]
_DROP_IN = """
import asyncio
from app.core.Embeddings.job_manager import EmbeddingJobManager, JobManagerConfig
from app.core.Embeddings.queue_schemas import UserTier, ChunkingConfig

async def main():
    config = JobManagerConfig()
    job_manager = EmbeddingJobManager(config)
    await job_manager.initialize()
    job_id = await job_manager.create_job(media_id=123, user_id="user_456", user_tier=UserTier.PREMIUM,
        content="Large text content to embed...", content_type="text",
        chunking_config=ChunkingConfig(chunk_size=1000, overlap=200), priority=50)
    job_info = await job_manager.get_job_status(job_id)
    print(f"Job {job_id} status: {job_info.status}")

asyncio.run(main())
"""


@pytest.fixture
def orchestrator(command: Command) -> Iterator[subprocess.Popen[str]]:
    """Ready for jobs; started from a checkout by the drop-in's name."""
    checkout = {"PYTHONPATH": import_path(_CHECKOUT)}
    process = command.start(module="app.core.Embeddings.worker_orchestrator", env=checkout)
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready"):
            break
    assert any(str(command.data_dir) in line for line in said), finish(process)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_drop_in_example_runs_as_it_stands_and_its_job_completes(
    command: Command, orchestrator: subprocess.Popen[str]
) -> None:
    script = command.folder / "example.py"
    script.write_text(_DROP_IN)
    result = finish(command.start(module="example", env={"PYTHONPATH": import_path(_CHECKOUT)}))
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.rstrip().rpartition("status: ")[2] in {"pending", "chunking", "embedding", "storing"}
    command.wait_for_completed(orchestrator, 1)


def test_ingest_and_search_work_through_a_running_orchestrator_which_drains_on_sigterm(
    command: Command, orchestrator: subprocess.Popen[str], corpus: Path
) -> None:
    result = command.run("ingest", corpus)
    assert result.code == 0
    assert f"working through process {orchestrator.pid}" in result.stderr
    assert len(command.run("search", "cat", "--json").document["hits"]) == 2
    orchestrator.send_signal(signal.SIGTERM)
    stopped = finish(orchestrator)
    assert stopped.code == 0
    assert "Traceback" not in stopped.stderr


def test_a_second_owner_is_refused_and_told_who_the_first_is(
    command: Command, orchestrator: subprocess.Popen[str]
) -> None:
    second = command.run("serve-workers")
    assert second.code == 1
    assert str(orchestrator.pid) in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_ingest_carries_on_itself_when_the_orchestrator_is_killed(
    command: Command, orchestrator: subprocess.Popen[str], tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(100):
        (many / f"{number}.txt").write_text(f"Document {number}.\n")
    ingest = command.start("ingest", many, "--json")
    command.wait_for_completed(ingest, 1)
    os.kill(orchestrator.pid, signal.SIGKILL)
    result = finish(ingest)
    assert result.code == 0
    assert result.document["totals"]["ingested"] == 100
