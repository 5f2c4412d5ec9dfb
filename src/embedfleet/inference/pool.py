"""The loaded models of a process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic

from loguru import logger

from embedfleet.errors import ModelError, ModelUnavailable, Transient
from embedfleet.inference.budget import Tenancy, make_room, memory_by_device
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.meter import ModelMeter
from embedfleet.inference.runner import ModelRunner
from embedfleet.metrics import Metrics
from embedfleet.settings import ModelsSettings

# A model that could not be loaded is left alone for so long, doubling: loading may take a minute, and its
# tasks come back every second.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a model is not to be had, and from when on (monotonic seconds) it is tried again."""

    reason: str
    pause_seconds: float
    until: float


class ModelPool:
    """One runner a model, started when first asked for; it gives way to another if memory is short.

    `memory_mb` of the settings bounds what the models on a device take together, by estimates made from
    their files: the model unused for longest makes room, and one that is at work is waited for.
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
        """`calibrating`: spend a second at the first load on a machine to find the best batch size. `now`:
        seconds, for pauses and for who was used last."""
        self._now = now
        self._catalogue = catalogue
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._calibrating = calibrating
        self.left_behind = 0  # models whose thread is stuck, and still takes memory and a core
        self._loads: dict[str, asyncio.Task[ModelRunner]] = {}
        self._memory: dict[str, dict[str, int]] = {}
        self._troubles: dict[str, _Trouble] = {}
        self._uses: Counter[str] = Counter()
        self._used_at: dict[str, float] = {}
        self._changed = asyncio.Condition()  # of uses, and of who waits for room
        self._waiting_for_room: str | None = None
        self._making_room = asyncio.Lock()
        self._closed = False

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[ModelRunner]:
        """The started runner, which stays loaded meanwhile. Raises as `get` does.

        While a model waits for room, those that could make it take nobody new: else one that is never idle
        would keep the other out for ever.
        """
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting_for_room in (None, name))
            runner = await self.get(name)
            load = self._loads.get(name)
            if load is not None and _is_ready(load) and load.result() is runner:
                break  # else it had to go in this very moment
        self._uses[name] += 1
        try:
            yield runner
        finally:
            self._uses[name] -= 1
            self._used_at[name] = self._now()
            async with self._changed:
                self._changed.notify_all()

    async def get(self, name: str) -> ModelRunner:
        """Load the model if it is not. However many ask at once, it is loaded once.

        A caller that is cancelled does not disturb the load. Raises UnknownModel; ModelError to all who
        waited for a load that failed, or ModelUnavailable if `on_load_failure` says to wait: it is tried
        again after a pause. Raises ModelUnavailable in quarantine, and Transient once the pool is closed.
        """
        self._require_open()
        self._require_no_trouble(name)
        self._replace_broken(name)
        if name not in self._loads:
            load = asyncio.create_task(self._load(name), name=f"load model {name}")
            load.add_done_callback(_note_failure)
            self._loads[name] = load
        return await asyncio.shield(self._loads[name])

    async def quarantine(self, name: str, reason: str) -> None:
        """Close the model, and refuse it for a while: it is then loaded anew."""
        logger.error("model {} is put in quarantine: {}", name, reason)
        self._metrics.model_quarantines_total.labels(name).inc()
        self._note_trouble(name, f"model {name} is in quarantine: {reason}")
        await self._evict([name])

    def trusted(self, name: str) -> None:
        """It has shown that it works: its next trouble is its first."""
        self._troubles.pop(name, None)

    def loaded(self) -> list[str]:
        """Names of the models that are ready, sorted. Any thread may ask."""
        loads = list(self._loads.items())  # one step: the event loop may be changing it
        return sorted(name for name, load in loads if _is_ready(load))

    def largest_call_tokens(self) -> int:
        """Padded tokens that a call of a loaded model has at most; 0 if none is ready."""
        ready = (load.result() for load in self._loads.values() if _is_ready(load))
        return max((runner.microbatch_tokens for runner in ready), default=0)

    async def close(self) -> None:
        """Close every runner, loading ones too. May be called again."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()
        loads = list(self._loads.values())
        self._loads.clear()
        runners = await asyncio.gather(*loads, return_exceptions=True)
        await asyncio.gather(*(runner.close() for runner in runners if isinstance(runner, ModelRunner)))

    def _require_open(self) -> None:
        if self._closed:
            raise Transient("the models are being closed: try again on another worker")

    def _require_no_trouble(self, name: str) -> None:
        trouble = self._troubles.get(name)
        if trouble is not None and self._now() < trouble.until:
            raise ModelUnavailable(f"{trouble.reason}: tried again later")

    def _note_trouble(self, name: str, reason: str) -> None:
        before = self._troubles.get(name)
        pause = _FIRST_PAUSE_SECONDS if before is None else 2 * before.pause_seconds
        pause = min(pause, _LONGEST_PAUSE_SECONDS)
        self._troubles[name] = _Trouble(reason, pause, self._now() + pause)

    def _replace_broken(self, name: str) -> None:
        load = self._loads.get(name)
        if load is not None and _is_ready(load) and (runner := load.result()).broken:
            logger.warning("model {} is loaded anew", name)
            self.left_behind += runner.stuck
            del self._loads[name]
            self._memory.pop(name, None)  # else it would wait for itself to be idle

    async def _load(self, name: str) -> ModelRunner:
        try:
            return await self._started(name)
        except BaseException as exc:
            self._loads.pop(name, None)
            if isinstance(exc, ModelError) and self._settings.on_load_failure == "wait":
                self._note_trouble(name, str(exc))
                raise ModelUnavailable(str(exc)) from exc
            raise

    async def _started(self, name: str) -> ModelRunner:
        devices = await asyncio.to_thread(self._catalogue.devices, name)
        needed = memory_by_device(devices, self._catalogue.memory_mb(name))
        async with self._making_room:
            await self._make_room(name, needed)
            self._memory[name] = needed
        runner = ModelRunner(
            [partial(self._catalogue.open, name, device) for device in devices],
            microbatch_tokens=partial(
                self._catalogue.microbatch_tokens, device=devices[0], calibrating=self._calibrating
            ),
            meter=ModelMeter(self._metrics, name),
            stuck_after_seconds=self._settings.stuck_after_seconds,
        )
        try:
            await runner.start()
        except BaseException:
            self._memory.pop(name, None)
            await runner.close()
            raise
        self._used_at[name] = self._now()
        return runner

    async def _make_room(self, name: str, needed: Mapping[str, int]) -> None:
        def leaving() -> list[str] | None:
            self._require_open()
            return make_room(name, needed, self._tenancies(), self._settings.memory_mb)

        self._waiting_for_room = name
        try:
            async with self._changed:
                while (names := leaving()) is None:
                    await self._changed.wait()
            if names:
                logger.info("models {} make room for {}", ", ".join(names), name)
            await self._evict(names)
        finally:
            self._waiting_for_room = None
            async with self._changed:
                self._changed.notify_all()

    def _tenancies(self) -> list[Tenancy]:
        """A model that is being loaded counts, and is not idle."""
        return [
            Tenancy(
                name,
                memory_mb,
                idle=not self._uses[name] and name in self._loads and _is_ready(self._loads[name]),
                used_at=self._used_at.get(name, 0.0),
            )
            for name, memory_mb in self._memory.items()
        ]

    async def _evict(self, names: Sequence[str]) -> None:
        loads = [self._loads.pop(name) for name in names if name in self._loads]
        for name in names:
            self._memory.pop(name, None)
        await asyncio.gather(*(load.result().close() for load in loads if _is_ready(load)))


def _is_ready(load: asyncio.Task[ModelRunner]) -> bool:
    return load.done() and not load.cancelled() and load.exception() is None


def _note_failure(load: asyncio.Task[ModelRunner]) -> None:
    """If every caller has gone by then, the failure is still no surprise to the event loop."""
    if not load.cancelled():
        load.exception()
