"""A job that hangs in a test explains itself: what it waits for, and where every task and thread is."""

from __future__ import annotations

from time import time

import pytest

from embedfleet.settings import Settings
from support import hang_report
from support.hang_report import state_of, unfinished_jobs
from support.hangs import HANG_SECONDS
from support.system import Configure, Running, running


@pytest.fixture
def settings(configure: Configure) -> Settings:
    """Of a system whose jobs stay pending."""
    return configure(worker_pools={"chunking": {"workers": 0}})


async def hung(fleet: Running) -> list[str]:
    """Submit a job and return the ids of the jobs that have not ended."""
    await fleet.submit("1", "A text.")
    return await unfinished_jobs(fleet.system, submitted_before=time() + 1)


async def test_the_state_of_a_system_names_its_jobs_queues_tasks_and_threads(settings: Settings) -> None:
    async with running(settings) as fleet:
        [job_id] = await hung(fleet)
        told = await state_of(fleet.system, [job_id])
        assert "not known:" not in told
        for word in (job_id, "'status': 'pending'", "chunking: Depth(", "orchestrator_id", "sql-writer"):
            assert word in told, word
        assert "queue/memory_broker.py" in told, "where a loop waits for a task"


async def test_a_job_that_has_not_ended_for_long_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hang_report, "_BEFORE_THE_END_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(hang_report, "_LOOK_SECONDS", 0.01)
    async with running(settings) as fleet:
        [job_id] = await hung(fleet)
        await hang_report.report_hangs(fleet.system)
        assert f"--- job {job_id}" in capsys.readouterr().err
