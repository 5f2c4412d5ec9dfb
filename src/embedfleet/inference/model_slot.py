"""Everything a pool knows of one model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from embedfleet.errors import ModelUnavailable, Remedy
from embedfleet.inference.budget import MemoryClaim
from embedfleet.inference.runner import ModelRunner
from embedfleet.retry import BackOff

# A model that failed is left alone for the first pause, then for twice as long after each failure. Loading a
# model may take a minute, and its tasks come back every second: they must not load it every time.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class ModelSlot:
    """One model of a pool: empty, loading or ready, and paused after a failure.

    A slot lives as long as its pool. Its runner is replaced when it breaks, is evicted or is put in
    quarantine; the counters of uses and failures stay, because they are the model's and not the runner's.
    Belongs to one event loop, but for `runner`, which any thread may read.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.load: asyncio.Task[ModelRunner] | None = None  # None: neither loading nor loaded
        self.memory_mb: Mapping[str, int] = {}  # MiB by device, from before the load begins
        self.uses = 0  # callers inside `ModelPool.using`
        self.used_at = 0.0  # when the model was loaded or a use ended, by the pool's clock
        self._back_off = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._paused_because = ""
        self._remedy: Remedy | None = None  # of the failure that the model is paused for
        self._paused_until = 0.0

    @property
    def runner(self) -> ModelRunner | None:
        """The started runner; None while the slot is empty or loading."""
        load = self.load  # read once: the event loop may empty the slot while another thread reads it
        if load is None or not load.done() or load.cancelled() or load.exception() is not None:
            return None
        return load.result()

    @property
    def claim(self) -> MemoryClaim:
        """What the model takes of the devices' memory. A model that is loading is not idle."""
        idle = not self.uses and self.runner is not None
        return MemoryClaim(self.name, self.memory_mb, idle=idle, used_at=self.used_at)

    def empty(self) -> None:
        """Forget the runner and the memory it took; the caller closes it."""
        self.load = None
        self.memory_mb = {}

    def pause(self, reason: str, now: float, *, remedy: Remedy | None = None) -> None:
        """Refuse the model for a while, which doubles with each failure in a row."""
        self._paused_because = reason
        self._remedy = remedy
        self._paused_until = now + self._back_off.next_seconds()

    def require_not_paused(self, now: float) -> None:
        """Raises ModelUnavailable, with the reason and the remedy of the pause, while it lasts."""
        if now < self._paused_until:
            raise ModelUnavailable(f"{self._paused_because}: tried again later", remedy=self._remedy)

    def end_pause(self) -> None:
        """The model has shown that it works: the next failure is its first."""
        self._paused_until = 0.0
        self._back_off.reset()
