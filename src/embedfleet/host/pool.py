"""One pool of a host. It keeps its number of workers, restarts crashed workers, and drains surplus ones.

A surplus worker finishes the tasks it has in hand, however long that takes; only a stop of the whole host has
a time limit (`host_pools`). After a crash, the pool starts the worker again after a pause, which doubles with
each crash. It reports a crash loop and goes on trying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.launchers.launcher import Launcher, WorkerExit, WorkerHandle, WorkerSpec
from embedfleet.launchers.resources import max_workers, next_device, threads_per_worker
from embedfleet.launchers.restarts import CrashCounter, RestartPolicy
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import Stage
from embedfleet.settings import EmbeddingPoolSettings, PoolSettings
from embedfleet.waiting import first_of, wait_briefly

_MEMORY_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class _Slot:
    """The place of one worker. When the worker of a slot ends, the pool starts the next one in it."""

    number: int
    device: str | None
    crashes: CrashCounter
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    handle: WorkerHandle | None = None
    last_crash: str | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """The state of a pool, for operators.

    `ready` is the number of the `running` workers that claim tasks by now. `crash_loop` is the reason of the
    last crash if a worker is in a crash loop. `models` are the names of all models that workers have loaded,
    sorted.
    """

    stage: Stage
    target: int
    running: int
    ready: int
    draining: int
    crash_loop: str | None
    trouble: EmbedfleetError | None
    models: tuple[str, ...] = ()


class WorkerPool:
    """Keeps `target` workers of one stage. Call `run` once, and the other methods on its event loop."""

    def __init__(
        self,
        stage: Stage,
        *,
        launcher: Launcher,
        settings: PoolSettings,
        restarts: RestartPolicy,
        metrics: Metrics,
        cores: int | None = None,
    ) -> None:
        """`cores` is the number of cores that the workers share as model threads; None if they share none."""
        self._stage = stage
        self._launcher = launcher
        self._settings = settings
        self._restarts = restarts
        self._metrics = metrics
        self._cores = cores
        self._devices, self._per_device = _devices(settings)
        self._slots: dict[int, _Slot] = {}
        self._leaving: list[_Slot] = []
        self._target = 0
        self._changed = asyncio.Event()
        self._log = logger.bind(stage=stage.value)

    # --- size ---

    def resize(self, workers: int) -> int:
        """Set the number of workers. Returns the new number, which the pool's devices may limit."""
        bounded = max_workers(self._devices, self._per_device, workers)
        if bounded < workers:
            self._log.warning("{} workers asked for, the devices take {}", workers, bounded)
        self._target = bounded
        self._metrics.worker_target.labels(self._stage.value).set(bounded)
        self._changed.set()
        return bounded

    @property
    def target(self) -> int:
        return self._target

    def state(self) -> PoolState:
        slots = list(self._slots.values())
        looping = [s.last_crash for s in slots if s.crashes.is_loop]
        troubles = (s.handle.trouble for s in slots if s.handle is not None)
        return PoolState(
            stage=self._stage,
            target=self._target,
            running=sum(1 for s in slots if s.handle is not None),
            ready=sum(1 for s in slots if s.handle is not None and s.handle.ready),
            draining=len(self._leaving),
            crash_loop=looping[0] if looping else None,
            trouble=next((t for t in troubles if t), None),
            models=tuple(sorted({name for s in slots if s.handle is not None for name in s.handle.models})),
        )

    # --- life ---

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the pool at its target until `stop` is set. Return when every worker has ended."""
        async with asyncio.TaskGroup() as slots:
            while not stop.is_set():
                # Clear before the look: a change during `_fit_to_target` must bring another round.
                self._changed.clear()
                self._fit_to_target(slots)
                await first_of(self._changed.wait(), stop.wait())
            self.drain()

    def drain(self) -> None:
        """Let every worker finish the tasks it has in hand and end."""
        self._target = 0
        while self._slots:
            self._take_away(max(self._slots))

    def abort(self) -> None:
        """Make every worker hand back the tasks it has in hand and end at once."""
        self.drain()
        for slot in self._leaving:
            if slot.handle is not None:
                slot.handle.abort()

    def _fit_to_target(self, tasks: asyncio.TaskGroup) -> None:
        # The highest numbers go, so that the numbers of the workers that stay have no gap.
        while len(self._slots) > self._target:
            self._take_away(max(self._slots))
        while len(self._slots) < self._target:
            # A worker that drains still computes on its device until it has ended.
            used = [slot.device for slot in (*self._slots.values(), *self._leaving)]
            device = next_device(self._devices, used, self._per_device)
            if self._devices and device is None:
                # Draining workers hold the devices. When one ends, `_changed` is set and the pool tries
                # again.
                return
            # A draining worker keeps its number, too: two workers of one name could not be told apart.
            number = next(n for n in range(self._target + len(self._leaving)) if self._is_free(n))
            slot = self._slots[number] = _Slot(number, device, CrashCounter(self._restarts))
            tasks.create_task(self._keep(slot), name=f"{self._stage.value}-{number}")

    def _is_free(self, number: int) -> bool:
        return number not in self._slots and all(slot.number != number for slot in self._leaving)

    def _take_away(self, number: int) -> None:
        slot = self._slots.pop(number)
        self._leaving.append(slot)
        # Before the drain: `_keep` must see that no other worker follows when this one ends.
        slot.leaving.set()
        if slot.handle is not None:
            slot.handle.drain()
        self._count()

    # --- one slot ---

    async def _keep(self, slot: _Slot) -> None:
        """Keep a worker in the slot until the slot is taken away."""
        try:
            while not slot.leaving.is_set():
                started = monotonic()
                ended = await self._run_one_worker(slot)
                if slot.leaving.is_set():
                    return
                await self._note_exit(slot, ended, lived_seconds=monotonic() - started)
        finally:
            if slot in self._leaving:
                self._leaving.remove(slot)
            self._count()
            self._changed.set()

    async def _run_one_worker(self, slot: _Slot) -> WorkerExit:
        """Start a worker in the slot, and return when it has ended."""
        handle = await self._launcher.launch(self._spec(slot))
        slot.handle = handle
        # `_take_away` may have run during the launch, when there was no handle to drain. So drain it now.
        if slot.leaving.is_set():
            handle.drain()
        self._count()
        watch = asyncio.create_task(self._watch_memory(handle), name=f"memory of {handle.spec.name}")
        try:
            return await handle.wait()
        except asyncio.CancelledError:
            # Do not leave before the worker has ended: until then it may still settle its tasks.
            handle.abort()
            await handle.wait()
            raise
        finally:
            watch.cancel()
            slot.handle = None
            self._count()

    def _spec(self, slot: _Slot) -> WorkerSpec:
        threads = 0 if self._cores is None else threads_per_worker(self._cores, self._target)
        return WorkerSpec(self._stage, f"{self._stage.value}-{slot.number}", slot.device, threads)

    async def _note_exit(self, slot: _Slot, ended: WorkerExit, *, lived_seconds: float) -> None:
        """Record how the worker ended. After a crash, wait until the next one may start."""
        name = f"{self._stage.value}-{slot.number}"
        if not ended.crashed:
            slot.crashes.reset()
            self._log.info("worker {} ended ({}), starting another", name, ended.reason)
            return
        delay = slot.crashes.count(lived_seconds=lived_seconds)
        slot.last_crash = ended.reason
        level = "ERROR" if slot.crashes.is_loop else "WARNING"
        self._log.log(
            level,
            "worker {} crashed ({}), {} in a row: again in {:.1f} s",
            name,
            ended.reason,
            slot.crashes.in_a_row,
            delay,
        )
        self._metrics.worker_restarts_total.labels(self._stage.value).inc()
        self._count()
        await wait_briefly(slot.leaving, delay)

    async def _watch_memory(self, handle: WorkerHandle) -> None:
        """Drain the worker if it takes more memory than its limit. Its slot then starts another."""
        limit_mb = self._settings.memory_limit_mb
        if limit_mb is None:
            return
        while handle.memory_bytes <= limit_mb * 2**20:  # noqa: ASYNC110 - a size that grows is no event
            await asyncio.sleep(_MEMORY_LOOK_SECONDS)
        self._log.warning(
            "worker {} takes {:.0f} MB, over its limit of {} MB: it is replaced",
            handle.spec.name,
            handle.memory_bytes / 2**20,
            limit_mb,
        )
        # The slot is not leaving, so `_keep` starts the next worker when this one has drained.
        handle.drain()

    def _count(self) -> None:
        state = self.state()
        self._metrics.worker_count.labels(self._stage.value).set(state.running + state.draining)
        looping = state.crash_loop is not None
        self._metrics.worker_crash_looping.labels(self._stage.value).set(looping)


def _devices(settings: PoolSettings) -> tuple[Sequence[str], int]:
    """Return the devices of the pool's workers, and how many workers may share one device."""
    if isinstance(settings, EmbeddingPoolSettings):
        return settings.devices, settings.workers_per_device
    return (), 1
