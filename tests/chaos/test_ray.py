"""Faults of a Ray cluster in the middle of the work, before the oracle: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import psutil
import pytest
from chaos.scene import LEASE_SECONDS, Plan, Scene, scene
from chaos.verdict import Context, Size

from chaos import worker
from support.fleet import Orchestrator
from support.hangs import eventually
from support.import_path import import_path
from support.ray_cluster import RayCluster, runs_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
# Every worker of the fleet fits on one node, so that one may be lost.
LITTLE = {"resources": {"num_cpus": 0.1}}
CHUNKS = 600
# Longer than an actor waits for its driver.
SILENT_SECONDS = 45.0
SECONDS_A_CHUNK = 0.03


@asynccontextmanager
async def ray_scene(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A scene of which the stub model takes its time, also in the processes of Ray that start from now on."""
    context = Context.of("ray", seed=1, size=Size.SHORT, folder=folder)
    plan = Plan(seconds_a_chunk=SECONDS_A_CHUNK, pools={**LITTLE, "batch_tasks": 2}, batch_chunks=4)
    async with scene(context, plan) as at:
        monkeypatch.setenv(worker.SECONDS_A_CHUNK, str(SECONDS_A_CHUNK))
        monkeypatch.setenv(worker.TALLY, str(at.tally))
        monkeypatch.setenv("PYTHONPATH", import_path(ROOT))
        # What Ray calls `worker_process_setup_hook`, set for the processes of a whole node.
        monkeypatch.setenv("__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR", "chaos.worker.prepare")
        yield at


def on(cluster: RayCluster) -> list[str]:
    return ["--launcher", "ray", "--ray-address", cluster.address, "--pool", "embedding=2"]


def places(one: Orchestrator) -> Mapping[str, tuple[str, int]]:
    return runs_on(one.log.read_text())


def driver_of(one: Orchestrator) -> psutil.Process:
    [driver] = one.workers()
    return driver


async def no_finding(at: Scene) -> None:
    assert await at.until_ended(), "no progress"
    assert await at.examine() == []


async def goes_on(at: Scene) -> float:
    """Seconds until 40 chunks more are stored than now."""
    started = monotonic()
    assert await at.until_stored(await at.stored() + 40), "no progress"
    return monotonic() - started


async def test_a_scaled_pool_a_lost_node_and_a_dead_driver_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ray_scene(tmp_path, monkeypatch) as at:
        with RayCluster() as cluster:
            lost, _stays = cluster.add_node(), cluster.add_node()
            await at.inputs.submit_documents(at.guest.jobs, "a", CHUNKS // 50, chunks=50)
            with at.fleet.orchestrator(*on(cluster)) as one:
                assert await at.until_stored(20)
                here = places(one)
                gone = [name for name, (node, _) in here.items() if node == lost.node_id[:8]]
                assert 0 < len(gone) < len(here), "they are spread over both nodes"
                cluster.lose(lost)
                seconds = await goes_on(at)
                print(
                    f"after a node was lost 40 chunks took {seconds:.1f} s, with leases of {LEASE_SECONDS} s"
                )
                eventually(lambda: all(places(one)[name] != here[name] for name in gone), what="their places")

                assert at.fleet.command("scale", "embedding", "3").returncode == 0
                eventually(lambda: "embedding-2" in places(one), what="a third worker")
                assert at.fleet.command("scale", "embedding", "2").returncode == 0

                await at.inputs.submit_documents(at.guest.jobs, "b", CHUNKS // 50, chunks=50)
                driver_of(one).kill()
                await goes_on(at)
                assert one.process.poll() is None
                await no_finding(at)
                assert one.stop() == 0


async def test_actors_end_with_an_orchestrator_that_is_killed_and_another_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ray_scene(tmp_path, monkeypatch) as at:
        with RayCluster() as cluster:
            cluster.add_node()
            await at.inputs.submit_documents(at.guest.jobs, "a", CHUNKS // 50, chunks=50)
            with at.fleet.orchestrator(*on(cluster)) as one:
                assert await at.until_stored(20)
                orphans = [pid for _, pid in places(one).values()]
                one.process.kill()
                eventually(lambda: not any(psutil.pid_exists(pid) for pid in orphans), what="no orphan")
            with at.fleet.orchestrator(*on(cluster)) as one:
                await no_finding(at)
                assert one.stop() == 0


async def test_a_head_that_is_lost_ends_no_orchestrator_and_its_successor_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ray_scene(tmp_path, monkeypatch) as at:
        await at.inputs.submit_documents(at.guest.jobs, "a", CHUNKS // 50, chunks=50)
        with RayCluster() as cluster:
            cluster.add_node()
            port = cluster.port
            starting = at.fleet.orchestrator(*on(cluster))
            one = starting.__enter__()
            assert await at.until_stored(20)
        try:
            # The cluster is gone, with its head and all nodes.
            eventually(lambda: "it cannot be joined" in one.log.read_text(), what="the log")
            eventually(lambda: one.get("/readyz")[0] == 503, what="not ready")
            assert one.get("/healthz")[0] == 200
            with RayCluster(port=port) as successor:
                successor.add_node()
                eventually(lambda: one.get("/readyz")[0] == 200, what="ready again")
                await no_finding(at)
                assert one.stop() == 0
        finally:
            starting.__exit__(None, None, None)


async def test_a_head_that_is_silent_for_a_while_ends_no_worker_that_runs_and_starts_those_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "60")
    async with ray_scene(tmp_path, monkeypatch) as at:
        with RayCluster() as cluster:
            cluster.add_node()
            await at.inputs.submit_documents(at.guest.jobs, "a", CHUNKS // 50, chunks=50)
            with at.fleet.orchestrator(*on(cluster)) as one:
                assert await at.until_stored(20)
                before = places(one)
                head = psutil.Process(cluster.head_pid)
                head.suspend()
                try:
                    # Asked for before the silence is noticed: Ray waits for the head when it is asked.
                    assert at.fleet.command("scale", "embedding", "3").returncode == 0
                    await asyncio.sleep(SILENT_SECONDS)
                    assert "has not answered for" in one.log.read_text()
                    assert "embedding-2" not in places(one)
                finally:
                    head.resume()
                eventually(lambda: "embedding-2" in places(one), what="the third worker")
                assert {name: places(one)[name] for name in before} == before
                assert all(psutil.pid_exists(pid) for _, pid in before.values())
                await no_finding(at)
                assert one.stop() == 0


async def test_the_head_never_holds_the_secrets_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ray_scene(tmp_path, monkeypatch) as at:
        with RayCluster() as cluster:
            cluster.add_node()
            url = at.fleet.settings.database.url
            assert url is not None
            secret = url.get_secret_value().encode()
            await at.inputs.submit_documents(at.guest.jobs, "a", 1, chunks=20)
            with at.fleet.orchestrator(*on(cluster)) as one:
                assert await at.until_ended()
                _, actor = places(one)["storage-0"]
                assert holds(actor, secret), "the search finds what is there"
                assert not holds(cluster.head_pid, secret)
                assert not shown(actor, secret)
            assert files_with(Path(cluster.folder), secret) == []


def shown(pid: int, searched: bytes) -> bool:
    """Whether other users of the machine see these bytes of the process."""
    return any(searched in Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))


def files_with(folder: Path, searched: bytes) -> list[Path]:
    """The files below the folder that contain these bytes."""
    return [path for path in folder.rglob("*") if path.is_file() and searched in path.read_bytes()]


def holds(pid: int, searched: bytes) -> bool:
    """Whether these bytes are in the memory of the process that it may write to."""
    ranges = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for where, rights, *_ in ranges:
            start, end = (int(address, 16) for address in where.split("-"))
            if "w" in rights and "s" not in rights:
                memory.seek(start)
                with suppress(OSError):  # a part that was given back in between
                    if searched in memory.read(end - start):
                        return True
    return False
