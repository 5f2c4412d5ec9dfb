"""A fleet of real processes: orchestrators and their workers, over real Redis, PostgreSQL and Chroma."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from embedfleet.bootstrap import GuestSystem, open_broker, open_guest, open_store
from embedfleet.queue.broker import Depth
from embedfleet.queue_schemas import JobInfo, JobStatus, Stage, UserTier
from embedfleet.settings import Settings, load_settings
from support.hangs import HANG_SECONDS, eventually
from support.loopback_server import free_port
from support.system import ONE_EACH, Ledger, ledger_of, paragraphs, until

# Short, so that what a killed process held is taken over while the test waits. On a slow machine the leases
# of living processes expire as well: however often that happens, no work is given up.
QUICK_LEASES = {stage.value: {"lease_seconds": 2, "max_attempts": 1000} for stage in Stage}

# For what counts exactly: nothing dies, so nothing may expire, and no work is done twice.
LONG_LEASES = {stage.value: {"lease_seconds": HANG_SECONDS} for stage in Stage}

# The same, with writes so small that a drain comes in the middle of them.
SMALL_WRITES = LONG_LEASES | {"storage": {"lease_seconds": HANG_SECONDS, "batch_tasks": 2}}

SMALL_BATCHES = {"batch_chunks": 4}


@dataclass
class Orchestrator:
    """A running `embedfleet serve-workers`."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    said: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self, stage: Stage | None = None) -> list[psutil.Process]:
        """Its live worker processes, by what `ps` shows."""
        wanted = "embedfleet: " + ("" if stage is None else f"{stage.value}-")
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if _title(child).startswith(wanted)]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=HANG_SECONDS
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that carry these labels; 0 if there are none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{k}="{v}"' in sample for k, v in labels.items()):
                total += float(value)
        return total

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; returns the exit code."""
        self.process.send_signal(how)
        return self.process.wait(HANG_SECONDS)


@dataclass(frozen=True)
class Fleet:
    """The services of a fleet, and the settings that reach them."""

    folder: Path
    config: Mapping[str, Any]
    module: str = "embedfleet"  # what `python -m` runs
    environment: Mapping[str, str] = field(default_factory=dict)  # beside the machine's

    @property
    def settings(self) -> Settings:
        return load_settings(environ={}, overrides=self.config)

    def with_long_leases(self) -> Fleet:
        """The same fleet, in which no lease expires and no leader is followed by another."""
        leading = {**self.config["orchestrator"], "leader_lease_seconds": HANG_SECONDS}
        return replace(self, config={**self.config, "worker_pools": LONG_LEASES, "orchestrator": leading})

    def write_config(self, **changes: Any) -> Path:
        path = self.folder / "config.yaml"
        path.write_text(json.dumps({**self.config, **changes}))  # JSON is YAML
        return path

    def command(self, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run an embedfleet command to its end."""
        return subprocess.run(
            self._arguments(*arguments, config=config),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )

    @contextmanager
    def orchestrator(
        self, *arguments: str, config: Path | None = None, ready: bool = True
    ) -> Iterator[Orchestrator]:
        """Started, and by default ready; killed after the block if it still runs."""
        port = free_port()
        log = self.folder / f"orchestrator-{port}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                self._arguments("serve-workers", *arguments, config=config),
                env=self._environment() | {"EMBEDFLEET_MONITORING__METRICS_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        one = Orchestrator(process, port, log)
        try:
            if ready:
                wait_until_ready(one)
            yield one
        except BaseException:
            sys.stderr.write(log.read_text())  # pytest shows it with the failure
            raise
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _arguments(self, *arguments: str, config: Path | None) -> Sequence[str]:
        config = config or self.write_config()
        return [sys.executable, "-m", self.module, *arguments, "--config", str(config)]

    def _environment(self) -> dict[str, str]:
        """No setting of the machine's own user reaches the command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDFLEET_")}
        return kept | dict(self.environment)

    @asynccontextmanager
    async def guest(self) -> AsyncIterator[GuestSystem]:
        async with open_guest(self.settings) as guest:
            yield guest

    async def depths(self) -> dict[Stage, Depth]:
        broker = await open_broker(self.settings)
        try:
            return {stage: await broker.depth(stage) for stage in Stage}
        finally:
            await broker.close()

    async def ledger(self, guest: GuestSystem) -> Ledger:
        store = await open_store(self.settings)
        try:
            return await ledger_of(guest.database, store)
        finally:
            await store.close()


async def ended(guest: GuestSystem, job_ids: Sequence[str]) -> list[JobInfo]:
    """The jobs when all have ended."""
    async with asyncio.timeout(HANG_SECONDS):
        return [await guest.jobs.wait(job_id) for job_id in job_ids]


async def stored(guest: GuestSystem, job_ids: Sequence[str]) -> int:
    """Chunks of these jobs in the store by now."""
    return sum(info.progress.chunks_stored for info in await guest.jobs.of_all_tenants().statuses(job_ids))


def wait_until_ready(one: Orchestrator) -> None:
    """It has said so, all its workers are there, and `/readyz` agrees."""
    assert one.process.stdout is not None
    for line in one.process.stdout:
        one.said.append(line)
        if line.startswith("ready"):
            break
    else:
        raise AssertionError(f"ended before it was ready: {one.log.read_text()}")
    eventually(lambda: one.get("/readyz")[0] == 200, what="ready")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def more_stored(guest: GuestSystem, job_ids: Sequence[str], than: int) -> None:
    """Until more chunks of these jobs are in the store."""

    async def are_stored() -> bool:
        return await stored(guest, job_ids) > than

    await until(are_stored, guest.database)


def fleet_on(folder: Path, redis_url: str, postgres_url: str, chroma_url: str) -> Fleet:
    return Fleet(
        folder,
        {
            "data_dir": str(folder / "unused"),
            "redis": {"url": redis_url, "key_prefix": folder.name.replace("_", "-")},
            "database": {"url": postgres_url},
            "vector_store": {"url": chroma_url},
            "models": {"default": "stub"},
            "chunking": SMALL_BATCHES,
            "worker_pools": QUICK_LEASES,
            "orchestrator": {
                "heartbeat_seconds": 0.5,
                "leader_lease_seconds": 2,
                "restart_backoff_seconds": 0.2,
            },
        },
    )


async def submit(fleet: Fleet, guest: GuestSystem, name: str, count: int, chunks: int) -> list[str]:
    return await submit_for(tenant(fleet, name), guest, name, count, chunks)


async def submit_for(owner: str, guest: GuestSystem, name: str, count: int, chunks: int) -> list[str]:
    """Submit documents of this tenant, each of so many chunks. Returns the job ids."""
    return [
        await guest.jobs.create_job(
            media_id=f"{name}-{n}",
            user_id=owner,
            user_tier=UserTier.PREMIUM,
            content=paragraphs(f"{name}{n}", chunks),
            chunking_config=ONE_EACH,
        )
        for n in range(count)
    ]


def tenant(fleet: Fleet, name: str) -> str:
    """Of this test only: tests share a Chroma server, whose collections are named after tenants."""
    return f"{name}-{fleet.folder.name}"


def assert_all_completed(infos: Sequence[JobInfo], chunks: int) -> None:
    assert {info.status for info in infos} == {JobStatus.COMPLETED}, [info.reason for info in infos]
    assert {info.progress.chunks_stored for info in infos} == {chunks}
