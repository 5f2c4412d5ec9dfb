"""Workers on a Ray cluster against worker processes: throughput, and how soon work resumes after a lost node.

    python benchmarks/ray_launcher.py [--rounds 3] [--chunks 3000] [--lease 2]

One fleet at a time over a Redis, a PostgreSQL (without fsync: that of the tests) and a Chroma server of this
machine, with the stub model and two embedding workers. The rounds of the two launchers alternate, and the
cluster is up in both. The clock of a round starts when its first chunk is stored, so that no start of a
process counts, and stops when the last job has ended. Beside it is the processor time of the whole machine a
chunk, and the part of it that the processes of the cluster itself take. Node loss: the node with a part of
the workers is killed in mid-run, and the clock stops when a document that is submitted then is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.queue_schemas import Stage
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.fleet import Fleet, ended, fleet_on, more_stored, stored, submit
from support.postgres_server import PostgresServer
from support.ray_cluster import RayCluster, runs_on
from support.redis_server import RedisServer

_CHUNKS_OF_DOCUMENT = 50


@contextmanager
def new_fleet(lease_seconds: float) -> Iterator[Fleet]:
    """A fleet of this machine whose services are new."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as redis,
        PostgresServer() as postgres,
        PostgresDatabases(postgres).migrated() as database,
        ChromaServer(Path(folder) / "chroma") as chroma,
    ):
        plain = fleet_on(Path(folder), redis.url, database, chroma.url)
        pool = {"lease_seconds": lease_seconds, "resources": {"num_cpus": 0.25}}
        yield Fleet(
            Path(folder),
            {
                **plain.config,
                "chunking": {"batch_chunks": 32},
                "worker_pools": {one.value: pool for one in Stage},
            },
        )


@dataclass(frozen=True, slots=True)
class Round:
    """Throughput, and processor time a chunk: of the machine, and of Ray's own processes."""

    chunks_per_second: float
    machine_cpu_ms: float
    ray_cpu_ms: float


def cpu_seconds() -> NDArray[np.float64]:
    """float64 (2,): of the machine, and of the processes of the Ray cluster, but for the workers in it."""
    machine = psutil.cpu_times()
    ray = 0.0
    for process in psutil.process_iter():
        try:
            if is_of_ray(process.cmdline()):
                ray += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return np.array([machine.user + machine.system, ray])


def is_of_ray(command: Sequence[str]) -> bool:
    """Whether this is a process of a Ray node. A worker has a title of its own, as its command."""
    return any("/site-packages/ray/" in part for part in command[:3])


async def one_round(launcher: list[str], chunks: int) -> Round:
    with new_fleet(60.0) as fleet, fleet.orchestrator("--pool", "embedding=2", *launcher):
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "doc", chunks // _CHUNKS_OF_DOCUMENT, _CHUNKS_OF_DOCUMENT)
            await more_stored(guest, job_ids, 0)
            begun, before, cpu = time.perf_counter(), await stored(guest, job_ids), cpu_seconds()
            await ended(guest, job_ids)
            number = chunks - before
            machine, ray = 1_000 * (cpu_seconds() - cpu) / number
            return Round(number / (time.perf_counter() - begun), float(machine), float(ray))


async def seconds_to_resume(cluster: RayCluster, lease_seconds: float) -> dict[str, Any]:
    """The time from the loss of a node until a document that comes then is stored, and until all is done."""
    node = cluster.add_node()
    launcher = ["--launcher", "ray", "--ray-address", cluster.address]
    with new_fleet(lease_seconds) as fleet, fleet.orchestrator("--workers", "2", *launcher) as one:
        async with fleet.guest() as guest:
            job_ids = await submit(fleet, guest, "doc", 60, _CHUNKS_OF_DOCUMENT)
            await more_stored(guest, job_ids, 100)
            held = [
                name for name, (place, _) in runs_on(one.log.read_text()).items() if place == node.node_id[:8]
            ]
            begun = time.perf_counter()
            cluster.lose(node)
            probe = await submit(fleet, guest, "probe", 1, 1)
            await ended(guest, probe)
            probed = time.perf_counter() - begun
            await ended(guest, job_ids)
            (await fleet.ledger(guest)).assert_exact()
    return {
        "lease_seconds": lease_seconds,
        "workers_lost": sorted(held),
        "seconds_until_a_new_document_is_stored": probed,
    }


async def measure(rounds: int, chunks: int, lease_seconds: float) -> dict[str, Any]:
    with RayCluster() as cluster:
        cluster.add_node()
        on_ray = ["--launcher", "ray", "--ray-address", cluster.address]
        ray: list[Round] = []
        process: list[Round] = []
        measured = [(process, ["--launcher", "process"]), (ray, on_ray)]
        for _ in range(rounds):
            for seen, launcher in measured:
                seen.append(await one_round(launcher, chunks))
            measured.reverse()  # so that neither always comes first
        losses = [await seconds_to_resume(cluster, lease_seconds) for _ in range(rounds)]
    return {
        "chunks": chunks,
        "process": [asdict(one) for one in process],
        "ray": [asdict(one) for one in ray],
        "ray_share_of_process": median_speed(ray) / median_speed(process),
        "ray_share_by_round": [
            one.chunks_per_second / other.chunks_per_second for one, other in zip(ray, process, strict=True)
        ],
        "node_loss": losses,
    }


def median_speed(rounds: Sequence[Round]) -> float:
    return statistics.median(one.chunks_per_second for one in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=3000)
    parser.add_argument(
        "--lease", type=float, default=2.0, help="seconds of the leases in the runs of a lost node"
    )
    arguments = parser.parse_args()
    write_report("ray_launcher", asyncio.run(measure(arguments.rounds, arguments.chunks, arguments.lease)))


if __name__ == "__main__":
    main()
