"""A fleet whose workers something else starts, as Kubernetes does: each a process, and one process leads."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedfleet.queue_schemas import Stage
from support.chroma_server import ChromaServer
from support.fleet import SMALL_WRITES, Fleet, Orchestrator, ended, stored
from support.hangs import HANG_SECONDS, eventually
from support.import_path import import_path
from support.loopback_server import free_port
from support.poisoned import poisoned
from support.redis_server import RedisServer
from support.system import ONE_EACH, paragraphs

LEADS = ("--launcher", "none")


def worker_of(stage: Stage) -> tuple[str, ...]:
    return ("--launcher", "none", "--pool", stage.value)


def fleet_on(folder: Path, redis_url: str, postgres_url: str, chroma_url: str, **changes: Any) -> Fleet:
    # A drain leaves nothing to take over. A lease that expires was left: no machine is slow enough.
    return Fleet(
        folder,
        {
            "data_dir": str(folder / "unused"),
            "redis": {"url": redis_url, "key_prefix": folder.name.replace("_", "-")},
            "database": {"url": postgres_url},
            "vector_store": {"url": chroma_url},
            "models": {"default": "stub"},
            "chunking": {"batch_chunks": 4},
            "worker_pools": SMALL_WRITES,
            "orchestrator": {"heartbeat_seconds": 0.5, "leader_lease_seconds": 2},
        }
        | changes,
    )


@pytest.mark.slow
async def test_sigterm_drains_the_process_of_a_pool_and_another_one_goes_on(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str
) -> None:
    with ChromaServer(tmp_path / "own-chroma") as chroma, ExitStack() as running:
        fleet = fleet_on(tmp_path, redis_server.url, postgres_url, chroma.url)
        leading = running.enter_context(fleet.orchestrator(*LEADS))
        for stage in (Stage.CHUNKING, Stage.EMBEDDING):
            running.enter_context(fleet.orchestrator(*worker_of(stage)))
        async with fleet.guest() as guest:
            with fleet.orchestrator(*worker_of(Stage.STORAGE)) as first:
                with chroma.frozen():  # so that it is in the middle of its work when the signal comes
                    job_ids = [
                        await guest.jobs.create_job(
                            media_id=f"doc-{number}",
                            user_id="alice",
                            content=paragraphs(f"doc{number}", 100),
                            chunking_config=ONE_EACH,
                        )
                        for number in range(4)
                    ]
                    while (await fleet.depths())[Stage.STORAGE].leased == 0:
                        pass
                    first.process.send_signal(signal.SIGTERM)
                    eventually(lambda: "draining" in first.log.read_text(), what="the drain")
                    assert first.process.poll() is None, "it left before its tasks were done"
                assert first.process.wait(HANG_SECONDS) == 0
            assert (await fleet.depths())[Stage.STORAGE].leased == 0, (
                "what it had in hand was left to its lease"
            )
            assert 0 < await stored(guest, job_ids) < 400, "it did not stop in the middle"
            with fleet.orchestrator(*worker_of(Stage.STORAGE)) as second:
                assert {info.status.value for info in await ended(guest, job_ids)} == {"completed"}
                assert_only_the_first_leads(leading, second)
                assert_sized_elsewhere(fleet)
                assert leading.metric("embedding_lease_expiries_total") == 0
            (await fleet.ledger(guest)).assert_exact()


def assert_only_the_first_leads(leading: Orchestrator, worker: Orchestrator) -> None:
    eventually(lambda: leading.metric("embedding_leader") == 1, what="the leader")
    assert worker.metric("embedding_leader") == 0
    assert leading.workers() == []
    assert worker.workers() == [], "the process itself is the worker"


def assert_sized_elsewhere(fleet: Fleet) -> None:
    none = dict.fromkeys([stage.value for stage in Stage], 0)
    expected = sorted([none, {"chunking": 1}, {"embedding": 1}, {"storage": 1}], key=str)
    # A process tells of its worker with the heartbeat after its first one.
    eventually(lambda: shown_workers(fleet) == expected, what="each process with its worker in `pools`")
    refused = fleet.command("scale", "embedding", "3")
    assert refused.returncode == 1
    assert "kubectl scale" in refused.stderr


def test_a_process_without_its_services_lives_says_what_it_waits_for_and_begins_when_they_are_there(
    tmp_path: Path, postgres_url: str
) -> None:
    port = free_port()
    fleet = fleet_on(tmp_path, f"redis://127.0.0.1:{port}", postgres_url, "http://127.0.0.1:1")
    with fleet.orchestrator(*worker_of(Stage.CHUNKING), ready=False) as one:
        eventually(lambda: is_waiting_for_redis(one, port), what="not ready, for the missing broker")
        assert one.get("/healthz")[0] == 200, "a restart would not help"
        with RedisServer(port=port):
            eventually(lambda: one.get("/readyz")[0] == 200, what="ready")
            assert one.stop() == 0
    with fleet.orchestrator(*worker_of(Stage.CHUNKING), ready=False) as waiting:
        eventually(lambda: is_waiting_for_redis(waiting, port), what="not ready again")
        assert waiting.stop() == 0, "a process that waits ends at SIGTERM as well"


def shown_workers(fleet: Fleet) -> list[dict[str, int]]:
    """The workers by pool of every process that `embedfleet pools` shows."""
    shown = json.loads(fleet.command("pools", "--json").stdout)["orchestrators"]
    return sorted(
        ({stage: pool["workers"] for stage, pool in one["pools"].items()} for one in shown), key=str
    )


@pytest.mark.slow
async def test_a_model_that_hangs_ends_the_process_so_that_what_started_it_starts_another(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer
) -> None:
    hanging = {"POISON_DOES": "hang", "PYTHONPATH": import_path(Path(__file__).parents[1])}
    fleet = fleet_on(
        tmp_path,
        redis_server.url,
        postgres_url,
        chroma_server.url,
        models={"default": "stub", "stuck_after_seconds": 2},
    )
    poisoned_fleet = replace(fleet, module="support.poisoned", environment=hanging)
    with (
        fleet.orchestrator(*LEADS),
        fleet.orchestrator(*worker_of(Stage.CHUNKING)),
        poisoned_fleet.orchestrator(*worker_of(Stage.EMBEDDING)) as embedding,
    ):
        async with fleet.guest() as guest:
            text = poisoned(paragraphs("bad", 2), 1)
            await guest.jobs.create_job(media_id="1", user_id="alice", content=text)
            assert embedding.process.wait(HANG_SECONDS) == 1
        assert (await fleet.depths())[Stage.EMBEDDING].leased == 0, "handed back, not left to its lease"


def is_waiting_for_redis(one: Orchestrator, port: int) -> bool:
    try:
        status, words = one.get("/readyz")
    except OSError:  # it does not listen yet
        return False
    return status == 503 and str(port) in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pool", "embedding=2"), "name one of chunking, embedding, storage, deletion"),
        (("--pool", "embedding", "--pool", "storage"), "name one of"),
        (("--pool", "embedding", "--workers", "2"), "start more processes"),
    ],
)
def test_a_process_is_one_worker_of_one_pool(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    fleet = fleet_on(tmp_path, "redis://127.0.0.1:1", "postgresql://127.0.0.1/none", "http://127.0.0.1:1")
    refused = fleet.command("serve-workers", *LEADS, *arguments)
    assert refused.returncode == 2
    assert words in " ".join(refused.stderr.split())
