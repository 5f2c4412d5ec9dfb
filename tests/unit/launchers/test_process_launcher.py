"""The orchestrator's side of a worker process that stops talking, but lives on."""

from __future__ import annotations

import asyncio
import sys

import pytest
from prometheus_client import CollectorRegistry

from embedfleet.framing import framed
from embedfleet.launchers import process
from embedfleet.launchers.channel import Failure, pack
from embedfleet.launchers.launcher import WorkerSpec
from embedfleet.launchers.process import ProcessLauncher
from embedfleet.metrics.merging import MergedCollector
from embedfleet.queue_schemas import Stage
from embedfleet.settings import load_settings
from support.hangs import HANG_SECONDS

NO_MESSAGE = framed(b"\x01\x02")
NOT_SAID = "it closed its pipe, or reported what is no message"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", NOT_SAID),
        (NO_MESSAGE, NOT_SAID),
        (pack(Failure("the model is damaged")), "the model is damaged"),
        (pack(Failure("the model is damaged")) + NO_MESSAGE, "the model is damaged"),
    ],
    ids=["nothing", "nonsense", "its failure", "its failure, then nonsense"],
)
async def test_a_worker_whose_reports_end_is_killed_and_what_it_said_of_its_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch, written: bytes, reason: str
) -> None:
    monkeypatch.setattr(process, "_END_SECONDS", 0.1)
    says_it_and_hangs = f"import os, signal; os.write(1, {written!r}); os.close(1); signal.pause()"
    launcher = ProcessLauncher(
        [sys.executable, "-c", says_it_and_hangs],
        load_settings(environ={}),
        MergedCollector(CollectorRegistry()),
    )
    async with asyncio.timeout(HANG_SECONDS):
        ended = await (await launcher.launch(WorkerSpec(Stage.EMBEDDING, "embedding-0"))).wait()
    assert (ended.crashed, ended.reason) == (True, reason)
