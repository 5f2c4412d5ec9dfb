"""A pool keeps its number: through crashes, growth, shrinking, and the end."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from embedfleet.errors import EmbedfleetError, PlacementUnavailable, Transient
from embedfleet.host.pool import WorkerPool
from embedfleet.launchers.launcher import WorkerExit, WorkerSpec
from embedfleet.launchers.restarts import RestartPolicy
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import Stage
from embedfleet.settings import EmbeddingPoolSettings, PoolSettings
from support.hangs import HANG_SECONDS

AT_ONCE = RestartPolicy(base_seconds=0.001, cap_seconds=0.001, crash_loop_after=3)


class Puppet:
    """A worker that does what the test says."""

    def __init__(self, spec: WorkerSpec, *, ends_when_drained: bool) -> None:
        self.spec = spec
        self.ends_when_drained = ends_when_drained
        self.placed = True
        self.ready = True
        self.ready_at: float | None = monotonic()
        self.trouble: EmbedfleetError | None = None
        self.reports_always = False
        self._reports = 0
        self.memory_bytes = 0
        self.models: tuple[str, ...] = ()
        self.draining = asyncio.Event()
        self.aborted = asyncio.Event()
        self._end: asyncio.Future[WorkerExit] = asyncio.get_running_loop().create_future()

    @property
    def reports(self) -> int:
        self._reports += self.reports_always
        return self._reports

    def drain(self) -> None:
        self.draining.set()
        if self.ends_when_drained:
            self.finish()

    def abort(self) -> None:
        self.aborted.set()
        self.end(WorkerExit(crashed=False, reason="aborted"))

    def end(self, how: WorkerExit) -> None:
        if not self._end.done():
            self._end.set_result(how)

    def crash(self) -> None:
        self.end(WorkerExit(crashed=True, reason="killed by SIGKILL"))

    def finish(self) -> None:
        self.end(WorkerExit(crashed=False, reason="exit code 0"))

    async def wait(self) -> WorkerExit:
        return await asyncio.shield(self._end)


class PuppetTheatre:
    """A launcher of puppets; `launched` has them all, `next` waits for one more."""

    def __init__(self) -> None:
        self.launched: list[Puppet] = []
        self.over = False
        self.refusals = 0
        self._waiting: asyncio.Queue[Puppet] = asyncio.Queue()

    async def launch(self, spec: WorkerSpec) -> Puppet:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        puppet = Puppet(spec, ends_when_drained=self.over)
        self.launched.append(puppet)
        self._waiting.put_nowait(puppet)
        return puppet

    async def next(self, count: int = 1) -> list[Puppet]:
        async with asyncio.timeout(HANG_SECONDS):
            return [await self._waiting.get() for _ in range(count)]

    @property
    def nobody_else(self) -> bool:
        return self._waiting.empty()


@pytest.fixture
def launcher() -> PuppetTheatre:
    return PuppetTheatre()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@asynccontextmanager
async def pool_of(
    launcher: PuppetTheatre,
    metrics: Metrics,
    *,
    workers: int = 0,
    cores: int | None = None,
    **settings: object,
) -> AsyncIterator[tuple[WorkerPool, asyncio.Event]]:
    """A running pool; stopped, and its workers finished, after the block."""
    pool = WorkerPool(
        Stage.EMBEDDING,
        launcher=launcher,
        settings=EmbeddingPoolSettings.model_validate(settings),
        restarts=AT_ONCE,
        metrics=metrics,
        cores=cores,
    )
    stop = asyncio.Event()
    pool.resize(workers)
    running = asyncio.create_task(pool.run(stop))
    try:
        yield pool, stop
    finally:
        stop.set()
        launcher.over = True
        for puppet in launcher.launched:
            puppet.finish()
        async with asyncio.timeout(HANG_SECONDS):
            await running


def names(puppets: list[Puppet]) -> list[str]:
    return [puppet.spec.name for puppet in puppets]


def gauge(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"embedding_{name}", {"worker_type": "embedding"})


async def test_it_starts_so_many_and_grows(launcher: PuppetTheatre, metrics: Metrics) -> None:
    async with pool_of(launcher, metrics, workers=2) as (pool, _):
        assert names(await launcher.next(2)) == ["embedding-0", "embedding-1"]
        pool.resize(3)
        assert names(await launcher.next(1)) == ["embedding-2"]
        assert launcher.nobody_else
        assert (gauge(metrics, "worker_count"), gauge(metrics, "worker_target")) == (3, 3)


async def test_one_too_many_drains_and_is_waited_for_however_long(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=2) as (pool, _):
        first, second = await launcher.next(2)
        pool.resize(1)
        await second.draining.wait()
        assert not first.draining.is_set()
        assert not second.aborted.is_set()
        assert (pool.state().running, pool.state().draining) == (1, 1)
        pool.resize(2)  # the place of the one that still works is not taken
        assert names(await launcher.next(1)) == ["embedding-2"]
        second.finish()


async def test_a_model_is_loaded_if_some_worker_has_it(launcher: PuppetTheatre, metrics: Metrics) -> None:
    async with pool_of(launcher, metrics, workers=2) as (pool, _):
        first, second = await launcher.next(2)
        assert pool.state().models == ()
        first.models, second.models = ("static",), ("minilm", "static")
        assert pool.state().models == ("minilm", "static")


async def test_a_crashed_worker_is_started_again_and_counted(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=1) as (pool, _):
        (worker,) = await launcher.next()
        worker.crash()
        assert names(await launcher.next()) == ["embedding-0"]
        assert gauge(metrics, "worker_restarts_total") == 1
        assert pool.state().crash_loop is None


async def test_a_crash_loop_is_reported_with_its_reason_and_tried_on(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=1) as (pool, _):
        for _ in range(3):
            (worker,) = await launcher.next()
            worker.crash()
        await launcher.next()
        assert pool.state().crash_loop == "killed by SIGKILL"
        assert gauge(metrics, "worker_crash_looping") == 1


async def test_the_time_before_a_worker_is_ready_is_no_life_that_ends_a_crash_loop(
    launcher: PuppetTheatre, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits 90 s for a node each time, and dies there before it is ready."""
    now = 0.0
    monkeypatch.setattr("embedfleet.host.pool.monotonic", lambda: now)
    async with pool_of(launcher, metrics, workers=1) as (pool, _):
        for _ in range(3):
            (worker,) = await launcher.next()
            worker.ready_at = None
            now += 90.0
            worker.crash()
        (worker,) = await launcher.next()
        assert pool.state().crash_loop == "killed by SIGKILL"
        worker.ready_at = now
        now += 60.0
        worker.crash()
        await launcher.next()
        assert pool.state().crash_loop is None, "one that was ready for a minute ends the loop"


async def test_a_start_that_the_system_refuses_is_a_crash_of_that_worker_alone(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=1) as (pool, _):
        (works,) = await launcher.next()
        launcher.refusals = 3
        pool.resize(2)
        await launcher.next()
        assert gauge(metrics, "worker_restarts_total") == 3
        assert not works.draining.is_set()


async def test_a_worker_that_waits_for_a_node_is_no_trouble_of_a_pool_that_works(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    no_node = PlacementUnavailable("no node has so much GPU")
    async with pool_of(launcher, metrics, workers=2) as (pool, _):
        waits, works = await launcher.next(2)
        waits.placed, waits.ready, waits.trouble = False, False, no_node
        state = pool.state()
        assert (state.running, state.ready, state.waiting) == (1, 1, 1)
        assert (state.trouble, state.waits_for) == (None, no_node)
        works.trouble = Transient("the vector store is away")
        assert pool.state().trouble is works.trouble, "what a service lacks, all lack"
        works.placed, works.ready, works.trouble = False, False, None
        assert pool.state().trouble is no_node, "none of its workers works"


async def test_a_worker_without_a_node_is_the_first_that_is_too_many(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=3) as (pool, _):
        waits, *work = await launcher.next(3)
        waits.placed = False
        pool.resize(2)
        await asyncio.wait_for(waits.draining.wait(), HANG_SECONDS)
        assert not any(one.draining.is_set() for one in work)


async def test_a_worker_that_ended_in_good_order_is_replaced_at_once(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    """Somebody sent it a SIGTERM of its own."""
    async with pool_of(launcher, metrics, workers=1):
        (worker,) = await launcher.next()
        worker.finish()
        await launcher.next()
        assert gauge(metrics, "worker_restarts_total") is None


async def test_a_worker_over_its_memory_limit_drains_and_another_takes_its_place(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=1, memory_limit_mb=100):
        (worker,) = await launcher.next()
        worker.memory_bytes = 101 * 2**20
        async with asyncio.timeout(HANG_SECONDS):
            await worker.draining.wait()
        assert launcher.nobody_else, "the new one waits for the end of the old one"
        worker.finish()
        assert names(await launcher.next()) == ["embedding-0"]


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfleet.host.pool._LOOK_SECONDS", 0.001)


@pytest.mark.usefixtures("frequent_looks")
async def test_a_worker_that_reports_no_more_is_ended_and_replaced(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=2):
        hangs, reports = await launcher.next(2)
        reports.reports_always = True
        async with asyncio.timeout(HANG_SECONDS):
            await hangs.aborted.wait()
        assert names(await launcher.next()) == [hangs.spec.name]
        assert not reports.aborted.is_set()


@pytest.mark.usefixtures("frequent_looks")
async def test_one_that_is_not_ready_may_load_its_model_for_as_long_as_that_takes(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=2):
        loads, hangs = await launcher.next(2)
        loads.ready = False
        async with asyncio.timeout(HANG_SECONDS):
            await hangs.aborted.wait()
        assert not loads.aborted.is_set()


async def test_devices_are_dealt_out_one_worker_each_and_cores_are_shared(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(
        launcher, metrics, workers=5, cores=8, devices=["cuda:0", "cuda:1"], max_workers=8
    ) as (pool, _):
        workers = await launcher.next(2)
        assert [worker.spec.device for worker in workers] == ["cuda:0", "cuda:1"]
        assert [worker.spec.threads for worker in workers] == [4, 4]
        assert launcher.nobody_else
        assert pool.target == 2


async def test_a_device_is_free_only_when_its_draining_worker_has_ended(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=1, devices=["cuda:0"]) as (pool, _):
        (old,) = await launcher.next()
        pool.resize(0)
        await old.draining.wait()
        pool.resize(1)
        await asyncio.sleep(0)
        assert launcher.nobody_else
        old.finish()
        (new,) = await launcher.next()
        assert new.spec.device == "cuda:0"


async def test_at_the_stop_all_drain_and_the_pool_ends_with_the_last(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    async with pool_of(launcher, metrics, workers=2) as (_, stop):
        first, second = await launcher.next(2)
        stop.set()
        await asyncio.gather(first.draining.wait(), second.draining.wait())
        first.finish()
        second.finish()
    assert gauge(metrics, "worker_count") == 0


async def test_a_cancelled_pool_aborts_its_workers_and_waits_for_them(
    launcher: PuppetTheatre, metrics: Metrics
) -> None:
    pool = WorkerPool(
        Stage.STORAGE,
        launcher=launcher,
        settings=PoolSettings(),
        restarts=AT_ONCE,
        metrics=metrics,
        cores=None,
    )
    pool.resize(1)
    running = asyncio.create_task(pool.run(asyncio.Event()))
    (worker,) = await launcher.next()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert worker.aborted.is_set()
