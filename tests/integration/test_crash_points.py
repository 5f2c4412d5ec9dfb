"""Stopping anywhere: at whatever boundary, the job ends once and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from embedfleet.bootstrap import open_guest, open_owner
from embedfleet.clock import ManualClock
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import Settings
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import CollectionKey, VectorRows
from embedfleet.waiting import first_of
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import (
    ONE_EACH,
    TENANT,
    Configure,
    Running,
    make_settings,
    paragraphs,
    running,
    take_ledger,
    until,
)

OLD = paragraphs("old", 40)
NEW = paragraphs("intro", 1) + "\n\n" + OLD.replace("word7", "WORD7").replace("word23", "WORD23")
SMALL_BATCHES: dict[str, Any] = {"chunking": {"batch_chunks": 4}}


class Failed(Exception):
    """A defect: the worker that meets it goes on, the task is tried again."""


class Stopped(BaseException):
    """The end of everything: no worker outlives it (`run_to_the_end` sees to that)."""


class Fault:
    """Raises the first time that its point is passed."""

    def __init__(self, point: str, kind: type[BaseException]) -> None:
        self.point = point
        self.raised = False
        self.stopped = asyncio.Event()
        self._kind = kind

    def passing(self, point: str) -> None:
        if point == self.point and not self.raised:
            self.raised = True
            if self._kind is Stopped:
                self.stopped.set()
            raise self._kind(point)


class FaultyBroker(MemoryBroker):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        self._fault.passing(f"before queueing {stage}")
        added = await super().enqueue(stage, tasks)
        self._fault.passing(f"after queueing {stage}")
        return added

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        [stage] = {lease.stage for lease in leases}
        self._fault.passing(f"before ack {stage}")
        lost = await super().ack(leases)
        self._fault.passing(f"after ack {stage}")
        return lost


class FaultyStore(ChromaVectorStore):
    fault: Fault

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self.fault.passing("before writing vectors")
        await super().upsert(collection, rows)
        self.fault.passing("after writing vectors")

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        self.fault.passing("before deleting vectors")
        await super().delete(collection, ids)
        self.fault.passing("after deleting vectors")


class TellingStore(ChromaVectorStore):
    """Tells of its first write before the writer goes on."""

    written: asyncio.Event

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await super().upsert(collection, rows)
        self.written.set()


POINTS = [
    *(
        f"{when} queueing {stage}"
        for when in ("before", "after")
        for stage in (Stage.EMBEDDING, Stage.STORAGE)
    ),
    *(f"{when} ack {stage}" for when in ("before", "after") for stage in Stage),
    *(f"{when} {what} vectors" for when in ("before", "after") for what in ("writing", "deleting")),
]


async def run_to_the_end(settings: Settings, job_id: str, fault: Fault) -> int:
    """Run workers until the job has ended and nothing is left over; start anew whenever all falls over."""
    for starts in range(1, 20):
        store = await FaultyStore.open(chroma_directory(settings.data_dir))
        store.fault = fault
        try:
            async with running(settings, store=store, broker=FaultyBroker(fault)) as fleet:
                await first_of(finished(fleet, job_id), fault.stopped.wait())
                if fault.stopped.is_set():
                    fault.stopped.clear()
                    raise Stopped
        except BaseExceptionGroup as group:
            if group.split((Failed, Stopped))[1] is not None:
                raise
        else:
            return starts
    raise AssertionError("does not come to an end")


async def finished(fleet: Running, job_id: str) -> None:
    await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
    await fleet.settled()


@pytest.fixture(scope="module")
def data_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory that each stop is tried on; made once, and not to be changed."""
    settings = make_settings(tmp_path_factory.mktemp("before"), **SMALL_BATCHES)
    asyncio.run(ingest_before(settings))
    return settings.data_dir


async def ingest_before(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", OLD, chunking_config=ONE_EACH)
        await fleet.ingest("2", "Untouched.")


@pytest.mark.parametrize(
    ("point", "kind"),
    [
        # A failure before a step and a stop after it, or the other way round, by turns; the rest is slow.
        pytest.param(point, kind, marks=[pytest.mark.slow] * ((number + turn + ("after" in point)) % 2))
        for number, point in enumerate(POINTS)
        for turn, kind in enumerate((Failed, Stopped))
    ],
)
async def test_a_stop_at_any_boundary_loses_and_doubles_nothing(
    configure: Configure, data_before: Path, point: str, kind: type[BaseException]
) -> None:
    settings = configure(**SMALL_BATCHES)
    shutil.copytree(data_before, settings.data_dir)
    await stop_at(point, kind, settings)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "point", [POINTS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in POINTS[3::3])]
)
@pytest.mark.usefixtures("database_url")
async def test_a_stop_at_a_boundary_loses_and_doubles_nothing_on_postgresql(
    configure: Configure, point: str
) -> None:
    settings = configure(**SMALL_BATCHES)
    await ingest_before(settings)
    await stop_at(point, Stopped, settings)


async def stop_at(point: str, kind: type[BaseException], settings: Settings) -> None:
    """On top of what `ingest_before` left."""
    async with open_guest(settings) as guest:
        job_id = await guest.jobs.create_job(
            media_id="1", user_id=TENANT, content=NEW, chunking_config=ONE_EACH
        )
    fault = Fault(point, kind)
    starts = await run_to_the_end(settings, job_id, fault)
    assert fault.raised, "the point was never passed"
    assert kind is Failed or starts == 2, "nothing was stopped"
    async with running(settings) as fleet:
        await fleet.settled()
        await assert_exact(fleet, job_id, chunks=41)


async def assert_exact(fleet: Running, job_id: str, *, chunks: int) -> None:
    (await take_ledger(fleet.system)).assert_exact()
    info = await fleet.jobs.get_job_status(job_id)
    assert info.status is JobStatus.COMPLETED, info.reason
    progress = info.progress
    assert progress.chunks_total == progress.chunks_embedded == progress.chunks_stored == chunks
    for stage in Stage:
        depth = await fleet.system.broker.depth(stage)
        assert depth.ready + depth.leased + depth.delayed + depth.dead == 0, stage


class ForgetfulBroker(MemoryBroker):
    """Every task's first lease runs out just before its worker can ack: it is delivered twice."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._clock_to_move = clock
        self.taken_away: set[tuple[Stage, str]] = set()

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        first_time = {(lease.stage, lease.task.id) for lease in leases} - self.taken_away
        if first_time:
            self.taken_away |= first_time
            self._clock_to_move.advance(3600)
            for stage in {lease.stage for lease in leases}:
                await self.reap_expired(stage)
        return await super().ack(leases)


@on_both_databases
async def test_every_task_delivered_twice_changes_nothing(configure: Configure) -> None:
    # The clock's jumps end the leases of all tasks at work, of a slow one again and again: no limit here.
    patient = {stage.value: {"max_attempts": 1000} for stage in Stage}
    settings = configure(**SMALL_BATCHES, worker_pools=patient)
    broker = ForgetfulBroker(ManualClock())
    async with running(settings, broker=broker) as fleet:
        await fleet.ingest("1", OLD, chunking_config=ONE_EACH)
        info = await fleet.ingest("1", NEW, chunking_config=ONE_EACH)
        await fleet.idle()
        await fleet.settled()
        await assert_exact(fleet, info.job_id, chunks=41)
    assert {stage for stage, _ in broker.taken_away} == set(Stage)


KILLS = 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killing_the_process_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, seed: int
) -> None:
    # A task may be in hand at each of the four kills: one more attempt, or it would be given up as poison.
    patient = {stage.value: {"max_attempts": KILLS + 1} for stage in Stage}
    settings = make_settings(tmp_path, **SMALL_BATCHES, worker_pools=patient, monitoring={"metrics_port": 0})
    rng = random.Random(seed)
    documents = {str(n): paragraphs(f"doc{n}", rng.randrange(1, 60)) for n in range(12)}
    async with open_guest(settings) as guest:
        job_ids = [
            await guest.jobs.create_job(media_id=name, user_id=TENANT, content=text, chunking_config=ONE_EACH)
            for name, text in documents.items()
        ]

        async def stored() -> int:
            infos = await guest.jobs.of_all_tenants().statuses(job_ids)
            return sum(info.progress.chunks_stored for info in infos)

        for _ in range(KILLS):
            before = await stored()
            kill_at = before + rng.randrange(1, 60)
            process = await start_workers(tmp_path)

            async def reached(kill_at: int = kill_at) -> bool:
                ended = all(i.status.terminal for i in await guest.jobs.of_all_tenants().statuses(job_ids))
                return ended or await stored() >= kill_at

            await until(reached, guest.database)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with running(settings) as fleet:
        for job_id in job_ids:
            assert (await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        total = sum(text.count("paragraph") for text in documents.values())
        infos = await fleet.jobs.of_all_tenants().statuses(job_ids)
        assert sum(info.progress.chunks_stored for info in infos) == total


async def start_workers(data: Path) -> asyncio.subprocess.Process:
    """`serve-workers` as a process of its own."""
    environment = os.environ | {
        "EMBEDFLEET_MODELS__DEFAULT": "stub",
        "EMBEDFLEET_CHUNKING__BATCH_CHUNKS": "4",
        "EMBEDFLEET_DATABASE__SYNCHRONOUS": "normal",
        "EMBEDFLEET_MONITORING__METRICS_PORT": "0",
        **{f"EMBEDFLEET_WORKER_POOLS__{stage.name}__MAX_ATTEMPTS": str(KILLS + 1) for stage in Stage},
    }
    command = [sys.executable, "-m", "embedfleet", "serve-workers", "--data-dir", str(data / "data")]
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )


@on_both_databases
async def test_a_stop_drains_and_the_next_start_goes_on(configure: Configure) -> None:
    settings = configure(**SMALL_BATCHES)
    store = await TellingStore.open(chroma_directory(settings.data_dir))
    store.written = asyncio.Event()
    async with running(settings, store=store) as fleet:
        job_id = await fleet.submit("1", paragraphs("long", 2000), chunking_config=ONE_EACH)
        # To look at the job in place of this takes longer than the rest of its work, on a busy machine.
        async with asyncio.timeout(HANG_SECONDS):
            await store.written.wait()
    async with open_owner(settings, purpose="look") as system:
        info = await system.jobs.get_job_status(job_id)
        stored_before = info.progress.chunks_stored
        assert not info.status.terminal
        assert 0 < stored_before < 2000
    async with running(settings) as fleet:
        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        assert fleet.embedded() <= 2000 - stored_before, "something stored was embedded again"
        await assert_exact(fleet, job_id, chunks=2000)
