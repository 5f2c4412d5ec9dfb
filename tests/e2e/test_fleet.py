"""A fleet as its operator runs it: processes on real servers, killed, scaled and stopped while they work."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from embedfleet.queue_schemas import Stage
from embedfleet.searching.search import SearchRequest
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.fleet import (
    SMALL_WRITES,
    Fleet,
    Orchestrator,
    assert_all_completed,
    ended,
    fleet_on,
    more_stored,
    stored,
    submit,
    tenant,
)
from support.hangs import HANG_SECONDS, eventually
from support.loopback_server import free_port
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

WITHOUT_WORKERS = [f"--pool={stage.value}=0" for stage in Stage]
"""For what the orchestrator does by itself: each worker costs a second of two cores to start."""


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer) -> Fleet:
    return fleet_on(tmp_path, redis_server.url, postgres_url, chroma_server.url)


def leaders(*orchestrators: Orchestrator) -> list[Orchestrator]:
    return [one for one in orchestrators if one.metric("embedding_leader") == 1]


def loaded_models(fleet: Fleet) -> list[str]:
    rows = json.loads(fleet.command("models", "--json").stdout)["models"]
    return [row["name"] for row in rows if row["loaded"]]


@pytest.mark.slow
async def test_two_hosts_share_the_work_of_two_tenants_and_one_of_them_leads(fleet: Fleet) -> None:
    fleet = fleet.with_long_leases()  # it counts what was done, and a lost lease is done twice
    few = ["--pool", "chunking=0", "--pool", "deletion=0"]
    with fleet.orchestrator("--pool", "embedding=2") as a, fleet.orchestrator(*few) as b:
        eventually(lambda: len(leaders(a, b)) == 1, what="one leader")
        assert [len(a.workers(stage)) for stage in Stage] == [1, 2, 1, 1]
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "alice", 6, 20) + await submit(fleet, guest, "bob", 6, 20)
            assert_all_completed(await ended(guest, job_ids), 20)
            (await fleet.ledger(guest)).assert_exact()
        eventually(lambda: counted(a, b, "embedding_jobs_total", status="completed") == 12, what="all counts")
        # Jobs are counted by the leader itself; what workers count comes with their next report.
        eventually(lambda: counted(a, b, "embedding_chunks_embedded_total") == 240, what="all reports")
        assert counted(a, b, "embedding_tenant_jobs_total", tenant=tenant(fleet, "bob")) == 6
        assert a.metric("embedding_worker_count", worker_type="embedding") == 2
        eventually(lambda: a.metric("embedding_queue_depth", stage="storage") == 0, what="empty queues")
        stored = partial(counted, a, b, "embedding_store_seconds_count", operation="upsert")
        eventually(lambda: stored() > 0, what="the report of the storage workers")
        assert counted(a, b, "embedding_sql_seconds_count", operation="write") > 0
        eventually(lambda: shows_both(fleet, a, b), what="both hosts in `pools`, with the two workers")
        eventually(lambda: loaded_models(fleet) == ["stub"], what="the workers' models in the list")
        eventually(lambda: healthy(fleet), what="a clean bill of health")


async def test_a_folder_is_ingested_and_searched_through_the_fleet(fleet: Fleet, corpus: Path) -> None:
    me = ("--tenant", tenant(fleet, "me"))
    with fleet.orchestrator() as one:
        ingested = fleet.command("ingest", str(corpus), *me)
        assert ingested.returncode == 0, ingested.stderr
        assert "working through the fleet" in ingested.stderr
        eventually(lambda: one.metric("embedding_jobs_total", status="completed") == 2, what="its counts")
        found = fleet.command("search", "cat", "--json", *me)
        assert len(json.loads(found.stdout)["hits"]) == 2, found.stderr
        async with fleet.guest() as guest:  # as an application asks, through SQL
            assert len(await guest.search.search(me[1], SearchRequest(query="cat"))) == 2
        exported = fleet.command("export", "--output", str(fleet.folder / "out"), *me)
        assert exported.stdout.endswith("out: 2 documents, 2 passages, 2 vectors\n"), exported.stderr
        gone = fleet.command("documents", "delete", str(corpus / "cats.md"), *me)
        assert gone.returncode == 0, gone.stderr
        async with fleet.guest() as guest:
            (await fleet.ledger(guest)).assert_exact()


def healthy(fleet: Fleet) -> bool:
    examined = fleet.command("doctor")
    print(examined.stdout, examined.stderr)  # pytest shows it if it stays ill
    return examined.returncode == 0


def shows_both(fleet: Fleet, a: Orchestrator, b: Orchestrator) -> bool:
    """A host whose last heartbeat is late is left out: on a slow machine that passes."""
    shown = fleet.command("pools")
    wanted = ("2 of 2 workers", f"pid {a.pid}", f"pid {b.pid}")
    return shown.returncode == 0 and all(shown.stdout.count(one) == 1 for one in wanted)


def counted(a: Orchestrator, b: Orchestrator, name: str, **labels: str) -> float:
    return a.metric(name, **labels) + b.metric(name, **labels)


async def test_killed_workers_are_replaced_and_nothing_is_lost_or_doubled(fleet: Fleet) -> None:
    with fleet.orchestrator("--workers", "2") as one:
        async with fleet.guest() as guest:
            job_ids: list[str] = []
            for stage in (Stage.EMBEDDING, Stage.STORAGE, Stage.CHUNKING):
                before = await stored(guest, job_ids)
                # New work each time: a slow test finds what it submitted before done.
                job_ids += await submit(fleet, guest, stage.value, 3, 100)
                one.workers(stage)[0].kill()
                await more_stored(guest, job_ids, before)
            assert_all_completed(await ended(guest, job_ids), 100)
            (await fleet.ledger(guest)).assert_exact()
        eventually(lambda: all(len(one.workers(stage)) == 2 for stage in Stage), what="all workers back")
        assert one.metric("embedding_worker_restarts_total") >= 3
        assert "killed by SIGKILL" in one.log.read_text()


@pytest.mark.slow
async def test_a_killed_orchestrator_leaves_no_worker_and_another_leads_on(fleet: Fleet) -> None:
    with fleet.orchestrator() as a:
        eventually(lambda: leaders(a) == [a], what="the first leads")
        with fleet.orchestrator() as b:
            async with fleet.guest() as guest:
                job_ids = await submit(fleet, guest, "alice", 6, 60)
                workers = a.workers()
                a.process.kill()
                _, alive = psutil.wait_procs(workers, timeout=HANG_SECONDS)
                assert alive == []
                job_ids += await submit(fleet, guest, "bob", 2, 60)  # nobody but a leader offers these
                assert_all_completed(await ended(guest, job_ids), 60)
                (await fleet.ledger(guest)).assert_exact()
            eventually(lambda: leaders(b) == [b], what="the other leads")


@pytest.mark.slow
async def test_sigterm_drains_with_nothing_left_to_expire_and_the_rest_waits(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str
) -> None:
    with ChromaServer(tmp_path / "own-chroma") as chroma:
        fleet = fleet_on(tmp_path, redis_server.url, postgres_url, chroma.url)
        # A drain leaves nothing to take over. A lease that expires was left: no machine is slow enough.
        config = fleet.write_config(worker_pools=SMALL_WRITES)
        async with fleet.guest() as guest:
            with fleet.orchestrator("--pool", "embedding=2", config=config) as one:
                with chroma.frozen():  # so that it is in the middle of its work when the signal comes
                    job_ids = await submit(fleet, guest, "alice", 6, 100)
                    while (await fleet.depths())[Stage.STORAGE].leased == 0:
                        pass
                    workers = one.workers()
                    one.process.send_signal(signal.SIGTERM)
                    eventually(lambda: not one.workers(Stage.CHUNKING), what="the drain")
                assert one.process.wait(HANG_SECONDS) == 0
                assert not any(worker.is_running() for worker in workers)
            depths = await fleet.depths()
            assert sum(depth.leased for depth in depths.values()) == 0
            assert 0 < await stored(guest, job_ids) < 600, "it did not stop in the middle"
            with fleet.orchestrator(config=config) as again:
                assert_all_completed(await ended(guest, job_ids), 100)
                assert again.metric("embedding_lease_expiries_total") == 0
            (await fleet.ledger(guest)).assert_exact()


@pytest.mark.slow
async def test_a_second_signal_hands_back_what_is_stuck_and_ends_at_once(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str
) -> None:
    with ChromaServer(tmp_path / "own-chroma") as chroma:
        fleet = fleet_on(tmp_path, redis_server.url, postgres_url, chroma.url)
        # The orchestrator ends only after its own question to the frozen server. Long enough that a write is
        # still stuck when the second signal comes, on a slow machine too.
        config = fleet.write_config(vector_store={"url": chroma.url, "timeout_seconds": 15})
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "alice", 1, 40)
            with fleet.orchestrator(config=config) as one:
                assert_all_completed(await ended(guest, job_ids), 40)
                while (await fleet.depths())[Stage.STORAGE].leased:
                    pass  # acked last: only what waits for Chroma is leased from here on
                with chroma.frozen():
                    more = await submit(fleet, guest, "bob", 1, 40)
                    while (await fleet.depths())[Stage.STORAGE].leased == 0:
                        pass
                    one.process.send_signal(signal.SIGTERM)
                    eventually(lambda: not one.workers(Stage.CHUNKING), what="the drain")
                    assert one.workers(Stage.STORAGE), "stuck in a write"
                    assert one.stop() == 130
                    depths = await fleet.depths()
                    assert sum(depth.leased for depth in depths.values()) == 0
            with fleet.orchestrator():
                assert_all_completed(await ended(guest, job_ids + more), 40)
            (await fleet.ledger(guest)).assert_exact()


@pytest.mark.slow
async def test_pools_are_resized_by_command_and_by_hangup_without_a_restart(fleet: Fleet) -> None:
    with fleet.orchestrator() as one:
        before = {worker.pid for worker in one.workers(Stage.STORAGE)}
        told = fleet.command("scale", "embedding", "3")
        assert (told.returncode, told.stderr) == (0, "")
        eventually(lambda: len(one.workers(Stage.EMBEDDING)) == 3, what="three embedding workers")
        unknown = fleet.command("scale", "embeding", "3")
        assert "did you mean `embedding`" in unknown.stderr
        fleet.write_config(worker_pools={"embedding": {"workers": 1}, "chunking": {"workers": 2}})
        one.process.send_signal(signal.SIGHUP)
        eventually(lambda: [len(one.workers(stage)) for stage in Stage] == [2, 1, 1, 1], what="the new sizes")
        assert {worker.pid for worker in one.workers(Stage.STORAGE)} == before
        assert "need a restart" in one.log.read_text(), "lease_seconds changed as well"
        assert one.metric("embedding_worker_restarts_total") == 0


@pytest.mark.slow  # in one process: tests/integration/test_workers.py
async def test_with_storage_stopped_queues_stop_at_their_marks_and_all_resumes(fleet: Fleet) -> None:
    limit = 8
    small = {"max_queued_tasks": limit, "batch_tasks": 2}
    config = fleet.write_config(worker_pools={"embedding": small, "storage": small})
    async with fleet.guest() as guest:
        job_ids = await submit(fleet, guest, "alice", 4, 100)  # many times what the queues may hold
        with fleet.orchestrator("--pool", "storage=0", config=config) as one:
            while True:
                depths = await fleet.depths()
                if min(depths[stage].ready for stage in (Stage.EMBEDDING, Stage.STORAGE)) >= limit:
                    break
            memory = sum(worker.memory_info().rss for worker in one.workers())
            for _ in range(100):
                depths = await fleet.depths()
                # A claim or an offer that had looked before the mark was reached may still have come.
                assert depths[Stage.STORAGE].ready <= limit + 2 * 2
                assert depths[Stage.EMBEDDING].ready <= limit + 4
            assert sum(worker.memory_info().rss for worker in one.workers()) < memory * 1.1
            assert fleet.command("scale", "storage", "1").returncode == 0
            assert_all_completed(await ended(guest, job_ids), 100)
            (await fleet.ledger(guest)).assert_exact()


@pytest.mark.slow
async def test_from_none_one_message_wakes_a_worker(fleet: Fleet) -> None:
    none = {"workers": 0, "min_workers": 0, "max_workers": 2}
    config = fleet.write_config(
        worker_pools={stage.value: none for stage in Stage},
        auto_scaling={"enabled": True, "interval_seconds": 0.2},
    )
    with fleet.orchestrator(config=config) as one:
        assert one.workers() == []
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "alice", 1, 3)
            assert_all_completed(await ended(guest, job_ids), 3)
        assert "work waits and no worker is there: 0 -> 1" in one.log.read_text()


# --- services that go away ---


async def test_redis_killed_and_emptied_in_the_middle_loses_nothing(
    tmp_path: Path, postgres_url: str, chroma_server: ChromaServer
) -> None:
    with RedisServer() as redis:
        fleet = fleet_on(tmp_path, redis.url, postgres_url, chroma_server.url)
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "alice", 6, 100)
            with fleet.orchestrator() as one:
                await more_stored(guest, job_ids, 50)
                pids = {worker.pid for worker in one.workers()}
                redis.kill()
                eventually(lambda: one.get("/readyz")[0] == 503, what="not ready")
                assert one.get("/healthz")[0] == 200
                # A worker may report its trouble, and end the readiness, before the orchestrator looks.
                eventually(lambda: one.metric("embedding_broker_up") == 0, what="the metric of the broker")
                redis.start()  # without persistence: it has forgotten everything
                assert_all_completed(await ended(guest, job_ids), 100)
                eventually(lambda: one.get("/readyz")[0] == 200, what="ready again")
                assert {worker.pid for worker in one.workers()} == pids, "no worker had to be restarted"
            (await fleet.ledger(guest)).assert_exact()


async def test_postgresql_and_chroma_killed_in_the_middle_lose_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with (
        PostgresServer() as postgres,
        ChromaServer(tmp_path / "own-chroma") as chroma,
        PostgresDatabases(postgres).migrated() as postgres_url,
    ):
        fleet = fleet_on(tmp_path, redis_server.url, postgres_url, chroma.url)
        with fleet.orchestrator() as one:
            async with fleet.guest() as guest:
                job_ids = await submit(fleet, guest, "alice", 6, 100)
                await more_stored(guest, job_ids, 50)
            pids = {worker.pid for worker in one.workers()}
            chroma.kill()
            chroma.start()
            postgres.crash()
            eventually(lambda: one.get("/readyz")[0] == 503, what="not ready")
            postgres.start()
            async with fleet.guest() as guest:
                assert_all_completed(await ended(guest, job_ids), 100)
                (await fleet.ledger(guest)).assert_exact()
            assert {worker.pid for worker in one.workers()} == pids, "no worker had to be restarted"


# --- what is wrong at the start ---


@pytest.fixture
def nowhere() -> int:
    """A port on which nobody listens."""
    return free_port()


def test_a_service_that_is_down_at_the_start_is_named_in_one_line(fleet: Fleet, nowhere: int) -> None:
    for section, url, name in (
        ("redis", f"redis://:hush@127.0.0.1:{nowhere}", "127.0.0.1"),
        ("database", f"postgresql://u:hush@127.0.0.1:{nowhere}/x", "127.0.0.1"),
        ("vector_store", f"http://127.0.0.1:{nowhere}", "127.0.0.1"),
    ):
        refused = fleet.command("serve-workers", config=fleet.write_config(**{section: {"url": url}}))
        assert refused.returncode == 1, section
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
        assert name in refused.stderr
        assert "hush" not in refused.stderr


def test_with_wait_it_starts_when_redis_does(tmp_path: Path, fleet: Fleet) -> None:
    with RedisServer() as redis:
        redis.kill()
        config = fleet.write_config(redis={"url": redis.url})
        with fleet.orchestrator("--wait", *WITHOUT_WORKERS, config=config, ready=False) as one:
            eventually(lambda: "waiting:" in one.log.read_text(), what="it waits")
            redis.start()
            assert one.process.stdout is not None
            assert any(line.startswith("ready") for line in one.process.stdout)
            assert one.stop() == 0


def test_a_missing_schema_says_which_command_to_run(
    fleet: Fleet, postgres_databases: PostgresDatabases
) -> None:
    with postgres_databases.empty() as url:
        config = fleet.write_config(database={"url": url})
        refused = fleet.command("serve-workers", config=config)
        assert refused.returncode == 1
        assert "run `embedfleet db upgrade`" in refused.stderr
        assert fleet.command("db", "upgrade", config=config).returncode == 0
        with fleet.orchestrator(*WITHOUT_WORKERS, config=config):
            pass


def test_a_taken_metrics_port_names_the_setting(fleet: Fleet) -> None:
    with fleet.orchestrator(*WITHOUT_WORKERS) as one:
        config = fleet.write_config(monitoring={"metrics_port": one.port})
        refused = fleet.command("serve-workers", config=config)
        assert refused.returncode == 1
        assert "monitoring.metrics_port" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"redis": {}, "orchestrator": {"launcher": "process"}}, "set `redis.url`"),
        ({"vector_store": {}}, "set `vector_store.url`"),
    ],
)
def test_settings_that_cannot_go_together_are_refused_by_name(
    fleet: Fleet, changes: dict[str, object], words: str
) -> None:
    refused = fleet.command("serve-workers", config=fleet.write_config(**changes))
    assert refused.returncode == 1
    assert words in refused.stderr
