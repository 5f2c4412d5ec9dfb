"""A text that kills whatever embeds it: it alone is given up, wherever the workers run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from embedfleet.bootstrap import owner
from embedfleet.queue_schemas import CharRange, JobStatus, Stage
from support.chroma_server import ChromaServer
from support.command import Command, Result, finish
from support.hangs import HANG_SECONDS
from support.import_path import import_path
from support.poisoned import COMMAND, POISON, poisoned
from support.redis_server import RedisServer
from support.system import ONE_EACH, make_settings, paragraphs, running, take_ledger

TESTS = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The poisoned processes find `support`."""
    monkeypatch.setenv("PYTHONPATH", import_path(TESTS))


def range_of(text: str, bad: int) -> CharRange:
    part = text.split("\n\n")[bad].rstrip()
    start = text.index(part)
    return CharRange(start=start, end=start + len(part))


@pytest.mark.parametrize(  # a kill: chaos, R11
    "fate", [pytest.param("hang", marks=pytest.mark.slow), "exhaust"]
)
async def test_a_fleet_gives_up_the_one_text_its_workers_do_not_survive(
    tmp_path: Path,
    redis_server: RedisServer,
    postgres_url: str,
    chroma_server: ChromaServer,
    monkeypatch: pytest.MonkeyPatch,
    fate: str,
) -> None:
    monkeypatch.setattr(owner, "WORKER_COMMAND", COMMAND)
    monkeypatch.setenv("POISON_DOES", fate)
    settings = make_settings(
        tmp_path,
        database_url=postgres_url,
        redis={"url": redis_server.url, "key_prefix": f"poison-{fate}"},
        vector_store={"url": chroma_server.url},
        # What hangs costs the test this time at each try; a healthy call of the stub takes milliseconds.
        models={"default": "stub", "stuck_after_seconds": 3 if fate == "hang" else HANG_SECONDS},
        chunking={"batch_chunks": 16},
        worker_pools={stage.value: {"lease_seconds": 2} for stage in Stage},
        orchestrator={"restart_backoff_seconds": 0.05, "restart_backoff_max_seconds": 0.05},
    )
    text = poisoned(paragraphs("bad", 40), 21)
    async with running(settings) as fleet:
        tenant = f"poisoned-{fate}"  # the Chroma server is every test's
        bad = await fleet.submit("bad", text, chunking_config=ONE_EACH, user_id=tenant)
        good = [
            await fleet.submit(
                f"good{n}", paragraphs(f"good{n}", 5), chunking_config=ONE_EACH, user_id=tenant
            )
            for n in range(20)
        ]
        info = await fleet.jobs.wait(bad, timeout_seconds=HANG_SECONDS)
        others = [await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS) for job_id in good]
        await fleet.settled()
        ledger = await take_ledger(fleet.system)
    assert {other.status for other in others} == {JobStatus.COMPLETED}
    assert (info.status, info.reason) == (JobStatus.COMPLETED_WITH_ERRORS, "1 of 40 chunks failed")
    assert info.missing == (range_of(text, 21),)
    assert len(ledger.promised - ledger.held) == 1
    assert ledger.held == ledger.recorded
    assert ledger.held < ledger.promised
    assert info.progress.chunks_stored == info.progress.chunks_embedded - 1 == 39


@pytest.mark.slow
def test_embedded_the_process_dies_some_times_and_then_goes_on_without_the_text(command: Command) -> None:
    folder = command.folder / "corpus"
    folder.mkdir()
    text = poisoned(paragraphs("bad", 20), 7)
    (folder / "bad.txt").write_text(text)
    for n in range(5):
        (folder / f"good{n}.txt").write_text(paragraphs(f"good{n}", 3))
    deaths, last = ingest_until_it_ends(command, folder)
    assert 3 <= deaths <= 9
    assert last.code == 3, last.stderr
    jobs = command.typed("jobs", "list", "--json").document["jobs"]
    newest: dict[str, dict[str, Any]] = {}
    for job in reversed(jobs):
        newest[Path(job["source"]).name] = job
    assert {name: job["status"] for name, job in newest.items()} == {
        "bad.txt": "completed_with_errors",
        **{f"good{n}.txt": "completed" for n in range(5)},
    }
    assert [CharRange(**missing) for missing in newest["bad.txt"]["missing"]] == [range_of(text, 7)]
    hits = command.typed("search", POISON, "-k", "50", "--json").document["hits"]
    assert sum("bad paragraph" in hit["text"] for hit in hits) == 19


def ingest_until_it_ends(command: Command, folder: Path) -> tuple[int, Result]:
    """As a person would: again after every crash."""
    env = {
        "POISON_DOES": "kill",
        "EMBEDFLEET_CHUNKING": json.dumps(
            {"chunk_size": 400, "overlap": 0, "method": "paragraphs", "batch_chunks": 10}
        ),
    }
    for deaths in range(15):
        result = finish(command.start("ingest", str(folder), "--json", module="support.poisoned", env=env))
        if result.code != -signal.SIGKILL:
            return deaths, result
    raise AssertionError("it dies at every start")
