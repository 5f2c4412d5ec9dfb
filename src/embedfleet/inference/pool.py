"""The loaded models of a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

from loguru import logger

from embedfleet.errors import ModelError, ModelUnavailable, Transient
from embedfleet.inference.budget import choose_evictions, memory_by_device
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.meter import ModelMeter
from embedfleet.inference.model_slot import ModelSlot
from embedfleet.inference.runner import ModelRunner
from embedfleet.metrics import Metrics
from embedfleet.settings import ModelsSettings


class ModelPool:
    """One runner for each model, started when it is first asked for and evicted when memory is short.

    `memory_mb` of the settings bounds what the models on a device take together, by estimates made from
    their files. The model that has been unused for longest is evicted first; the pool waits for a model that
    is in use.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        settings: ModelsSettings,
        metrics: Metrics | None = None,
        *,
        calibrating: bool = False,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`calibrating`: the first load on a machine spends a second to find the best batch size. `now`:
        seconds, for pauses and for the time of the last use."""
        self._now = now
        self._catalogue = catalogue
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._calibrating = calibrating
        self.stuck_runners = 0  # replaced, but their thread is stuck and still takes memory and a core
        self._slots: dict[str, ModelSlot] = {}
        # Notified when a use ends, when a load fails, when a model stops waiting for room, and at the close:
        # after each of these a waiting caller may be able to go on.
        self._changed = asyncio.Condition()
        self._waiting_for_room: str | None = None
        # Held from the look at the memory until the claim is made: two models that look at the same time
        # would both take the room that is there for one.
        self._claiming_memory = asyncio.Lock()
        self._closed = False

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[ModelRunner]:
        """The started runner, which stays loaded until the block ends. Raises as `get` does.

        While a model waits for room, the other models take no new callers: otherwise a model whose uses
        overlap without a gap would never be idle and would keep the waiting model out for ever.
        """
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting_for_room in (None, name))
            runner = await self.get(name)
            slot = self._slots[name]
            # Between the end of the load and this line another task may have evicted the runner or put it in
            # quarantine: then ask again. From here to `uses` there is no await, so it cannot happen again.
            if slot.runner is runner:
                break
        slot.uses += 1
        try:
            yield runner
        finally:
            slot.uses -= 1
            slot.used_at = self._now()
            await self._notify()

    async def get(self, name: str) -> ModelRunner:
        """The runner, loaded if it is not; it may be evicted at any time (`using` prevents that).

        Any number of callers share one load, and a caller that is cancelled does not disturb it. Raises
        UnknownModel; ModelError to every caller that waited for a load that failed, or ModelUnavailable if
        `on_load_failure` says to wait: then the load is tried again after a pause. Raises ModelUnavailable
        while the model is in quarantine, and Transient once the pool is closed.
        """
        self._require_open()
        slot = self._slot(name)
        slot.require_not_paused(self._now())
        self._drop_broken(slot)
        if slot.load is None:
            slot.load = asyncio.create_task(self._load(slot), name=f"load model {name}")
            slot.load.add_done_callback(_retrieve_exception)
        # Shielded, as other callers may wait for the same load.
        return await asyncio.shield(slot.load)

    async def quarantine(self, name: str, reason: str) -> None:
        """Close the model and refuse it for a pause; it is loaded again after that."""
        logger.error("model {} is put in quarantine: {}", name, reason)
        self._metrics.model_quarantines_total.labels(name).inc()
        slot = self._slot(name)
        slot.pause(f"model {name} is in quarantine: {reason}", self._now())
        await self._evict([slot])

    def trusted(self, name: str) -> None:
        """The model has shown that it works: its next failure counts as its first."""
        self._slot(name).end_pause()

    def require_known(self, name: str) -> None:
        """Raise UnknownModel, which names the nearest known model, if there is no model of this name."""
        self._catalogue.settings_of(name)

    def loaded(self) -> list[str]:
        """Names of the models that are ready, sorted. Any thread may ask."""
        slots = list(self._slots.values())  # one step: the event loop may be adding a slot
        return sorted(slot.name for slot in slots if slot.runner is not None)

    def largest_call_tokens(self) -> int:
        """The most padded tokens that one call of a loaded model has; 0 if no model is ready."""
        runners = [slot.runner for slot in self._slots.values()]
        return max((runner.microbatch_tokens for runner in runners if runner is not None), default=0)

    async def close(self) -> None:
        """Close every runner, also those that are loading. May be called again."""
        self._closed = True
        await self._notify()  # a load that waits for room sees that the pool is closed, and ends
        loads = [slot.load for slot in self._slots.values() if slot.load is not None]
        for slot in self._slots.values():
            slot.empty()
        # A load is not cancelled, as its thread cannot be: it is waited for, then its runner is closed.
        runners = await asyncio.gather(*loads, return_exceptions=True)
        await asyncio.gather(*(runner.close() for runner in runners if isinstance(runner, ModelRunner)))

    def _slot(self, name: str) -> ModelSlot:
        if name not in self._slots:
            self._catalogue.settings_of(name)  # a wrong name raises UnknownModel and makes no slot
            self._slots[name] = ModelSlot(name)
        return self._slots[name]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _require_open(self) -> None:
        if self._closed:
            raise Transient("the models are being closed: try again on another worker")

    def _drop_broken(self, slot: ModelSlot) -> None:
        runner = slot.runner
        if runner is not None and runner.broken:
            logger.warning("model {} is loaded again", slot.name)
            self.stuck_runners += runner.stuck
            # With its claim of memory: a model that loads is not idle, so the new load would wait for room
            # that only its own slot could give.
            slot.empty()

    async def _load(self, slot: ModelSlot) -> ModelRunner:
        try:
            runner = await self._start_runner(slot)
        except BaseException as exc:
            slot.empty()
            # Its memory is free, and a model may wait for it. A load that succeeds notifies nothing: its own
            # callers must come first, or two models could evict each other before either is used.
            await self._notify()
            if isinstance(exc, ModelError) and self._settings.on_load_failure == "wait":
                slot.pause(str(exc), self._now(), remedy=exc.remedy)
                raise ModelUnavailable(str(exc), remedy=exc.remedy) from exc
            raise
        slot.used_at = self._now()
        return runner

    async def _start_runner(self, slot: ModelSlot) -> ModelRunner:
        devices = await asyncio.to_thread(self._catalogue.devices, slot.name)
        needed = memory_by_device(devices, self._catalogue.memory_mb(slot.name))
        async with self._claiming_memory:
            await self._make_room(slot.name, needed)
            slot.memory_mb = needed
        runner = ModelRunner(
            [partial(self._catalogue.open, slot.name, device) for device in devices],
            microbatch_tokens=partial(
                self._catalogue.microbatch_tokens, device=devices[0], calibrating=self._calibrating
            ),
            meter=ModelMeter(self._metrics, slot.name),
            stuck_after_seconds=self._settings.stuck_after_seconds,
        )
        try:
            await runner.start()
        except BaseException:
            await runner.close()
            raise
        return runner

    async def _make_room(self, name: str, needed: Mapping[str, int]) -> None:
        """Wait until the model fits, then evict what is in its way."""
        # From here on the other models take no new callers (see `using`), so each becomes idle.
        self._waiting_for_room = name
        try:
            async with self._changed:
                while (evicted := self._evictions(name, needed)) is None:
                    await self._changed.wait()
            if evicted:
                logger.info("models {} make room for {}", ", ".join(evicted), name)
            await self._evict(self._slots[each] for each in evicted)
        finally:
            self._waiting_for_room = None
            await self._notify()

    def _evictions(self, name: str, needed: Mapping[str, int]) -> Sequence[str] | None:
        self._require_open()  # asked after every wait: a pool that closes makes no more room
        claims = [slot.claim for slot in self._slots.values() if slot.memory_mb]
        return choose_evictions(name, needed, claims, self._settings.memory_mb)

    async def _evict(self, slots: Iterable[ModelSlot]) -> None:
        """Close the runners of these slots. A slot that is loading stays as it is: nothing else knows of
        that load, so its runner would never be closed."""
        ready = [(slot, runner) for slot in slots if (runner := slot.runner) is not None]
        for slot, _ in ready:
            slot.empty()  # before the first await, so that no new caller gets a runner that is closing
        await asyncio.gather(*(runner.close() for _, runner in ready))


def _retrieve_exception(load: asyncio.Task[ModelRunner]) -> None:
    """A load whose callers have all been cancelled may fail: its exception must be retrieved, or asyncio
    reports it as never retrieved."""
    if not load.cancelled():
        load.exception()
