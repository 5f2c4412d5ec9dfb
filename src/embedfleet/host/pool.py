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

_LOOK_SECONDS = 1.0
# A worker that is ready reports every second. After this many looks without a report its process hangs. Looks
# are counted and no seconds, because a host that was itself stopped has heard nothing.
_SILENT_LOOKS = 60


@dataclass(slots=True)
class _Slot:
    """The place of one worker. When the worker of a slot ends, the pool starts the next one in it."""

    number: int
    device: str | None
    crashes: CrashCounter
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    handle: WorkerHandle | None = None
    # When the worker that ended last had been ready; None if it never was.
    was_ready_at: float | None = None
    last_crash: str | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """The state of a pool, for operators.

    `running` workers have a process, and `ready` of them claim tasks by now. `waiting` ones wait for a node
    that takes them, and `waits_for` says what they lack, whether or not that is the pool's trouble.
    `trouble` is what keeps the pool from its work. `crash_loop` is the reason of the last crash if a worker
    is in a crash loop. `models` are the names of all models that workers have loaded, sorted.
    """

    stage: Stage
    target: int
    running: int
    ready: int
    draining: int
    waiting: int
    crash_loop: str | None
    trouble: EmbedfleetError | None
    waits_for: EmbedfleetError | None
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
        handles = [s.handle for s in slots if s.handle is not None]
        placed = [handle for handle in handles if handle.placed]
        waiting = [handle for handle in handles if not handle.placed]
        waits_for = next((handle.trouble for handle in waiting if handle.trouble), None)
        # What a placed worker lacks (a service, room on a disk) the others lack too. A node is lacked only by
        # the worker that waits for it, which is normal while a cluster grows: others go on.
        trouble = next((handle.trouble for handle in placed if handle.trouble), None)
        if not any(handle.ready for handle in placed):
            trouble = trouble or waits_for
        return PoolState(
            stage=self._stage,
            target=self._target,
            running=len(placed),
            ready=sum(1 for handle in placed if handle.ready),
            draining=len(self._leaving),
            waiting=len(waiting),
            crash_loop=looping[0] if looping else None,
            trouble=trouble,
            waits_for=waits_for,
            models=tuple(sorted({name for handle in handles for name in handle.models})),
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
        # Those go first that do no work yet, and of them the highest numbers.
        while len(self._slots) > self._target:
            self._take_away(max(self._slots, key=lambda number: (not self._is_placed(number), number)))
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

    def _is_placed(self, number: int) -> bool:
        handle = self._slots[number].handle
        return handle is not None and handle.placed

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
                ended = await self._run_one_worker(slot)
                if slot.leaving.is_set():
                    return
                await self._note_exit(slot, ended)
        finally:
            if slot in self._leaving:
                self._leaving.remove(slot)
            self._count()
            self._changed.set()

    async def _run_one_worker(self, slot: _Slot) -> WorkerExit:
        """Start a worker in the slot, and return when it has ended. A start that fails is a crash, too."""
        slot.was_ready_at = None
        try:
            handle = await self._launcher.launch(self._spec(slot))
            return await self._follow(slot, handle)
        except Exception as exc:  # noqa: BLE001 - noted as a crash; it must not end the other workers
            return WorkerExit(crashed=True, reason=f"it could not be started or followed: {exc!r}")

    async def _follow(self, slot: _Slot, handle: WorkerHandle) -> WorkerExit:
        slot.handle = handle
        # `_take_away` may have run during the launch, when there was no handle to drain. So drain it now.
        if slot.leaving.is_set():
            handle.drain()
        self._count()
        watch = asyncio.create_task(self._watch(handle), name=f"watch {handle.spec.name}")
        try:
            return await handle.wait()
        except asyncio.CancelledError:
            # Do not leave before the worker has ended: until then it may still settle its tasks.
            handle.abort()
            await handle.wait()
            raise
        finally:
            watch.cancel()
            slot.was_ready_at = handle.ready_at
            slot.handle = None
            self._count()

    def _spec(self, slot: _Slot) -> WorkerSpec:
        threads = 0 if self._cores is None else threads_per_worker(self._cores, self._target)
        return WorkerSpec(self._stage, f"{self._stage.value}-{slot.number}", slot.device, threads)

    async def _note_exit(self, slot: _Slot, ended: WorkerExit) -> None:
        """Record how the worker ended. After a crash, wait until the next one may start."""
        name = f"{self._stage.value}-{slot.number}"
        if not ended.crashed:
            slot.crashes.reset()
            self._log.info("worker {} ended ({}), starting another", name, ended.reason)
            return
        # Neither the wait for a node nor that for a model to load is life: a worker that ends after it has
        # done nothing.
        lived_seconds = 0.0 if slot.was_ready_at is None else monotonic() - slot.was_ready_at
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

    async def _watch(self, handle: WorkerHandle) -> None:
        """Count the worker once it has a process. Drain it if it takes more memory than its limit, and end it
        if it reports no more: its slot then starts another."""
        limit_mb = self._settings.memory_limit_mb
        placed = drained = False
        reports, silent_looks = handle.reports, 0
        while True:
            if handle.placed and not placed:
                placed = True
                self._count()
            if limit_mb is not None and not drained and handle.memory_bytes > limit_mb * 2**20:
                drained = True
                self._log.warning(
                    "worker {} takes {:.0f} MB, over its limit of {} MB: it is replaced",
                    handle.spec.name,
                    handle.memory_bytes / 2**20,
                    limit_mb,
                )
                # The slot is not leaving, so `_keep` starts the next worker when this one has drained.
                handle.drain()
            silent_looks = silent_looks + 1 if handle.ready and handle.reports == reports else 0
            reports = handle.reports
            if reports is not None and silent_looks >= _SILENT_LOOKS:
                self._log.error(
                    "worker {} has not reported for {:.0f} s: it hangs and is ended",
                    handle.spec.name,
                    silent_looks * _LOOK_SECONDS,
                )
                handle.abort()
                return
            await asyncio.sleep(_LOOK_SECONDS)

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
