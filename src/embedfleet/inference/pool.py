"""The loaded models of a process."""

from __future__ import annotations

import asyncio
from functools import partial

from loguru import logger

from embedfleet.errors import Transient
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.meter import ModelMeter
from embedfleet.inference.runner import ModelRunner
from embedfleet.metrics import Metrics
from embedfleet.settings import ModelsSettings


class ModelPool:
    """One runner a model, started when first asked for."""

    def __init__(
        self, catalogue: Catalogue, settings: ModelsSettings, metrics: Metrics | None = None
    ) -> None:
        self._catalogue = catalogue
        self._metrics = metrics or Metrics()
        self._microbatch_tokens = settings.microbatch_tokens
        self._stuck_after_seconds = settings.stuck_after_seconds
        self.left_behind = 0  # models whose thread is stuck, and still takes memory and a core
        self._loads: dict[str, asyncio.Task[ModelRunner]] = {}
        self._closed = False

    async def get(self, name: str) -> ModelRunner:
        """The started runner. However many ask at once, the model is loaded once.

        A caller that is cancelled does not disturb the load. Raises UnknownModel or ModelError to all
        who waited; the next call tries again. Raises Transient once the pool is closed.
        """
        if self._closed:
            raise Transient("the models are being closed: try again on another worker")
        self._replace_broken(name)
        if name not in self._loads:
            load = asyncio.create_task(self._load(name), name=f"load model {name}")
            load.add_done_callback(_note_failure)
            self._loads[name] = load
        return await asyncio.shield(self._loads[name])

    def _replace_broken(self, name: str) -> None:
        load = self._loads.get(name)
        if load is not None and _is_ready(load) and (runner := load.result()).broken:
            logger.warning("model {} is loaded anew", name)
            self.left_behind += runner.stuck
            del self._loads[name]

    def loaded(self) -> list[str]:
        """Names of the models that are ready, sorted."""
        return sorted(name for name, load in self._loads.items() if _is_ready(load))

    async def close(self) -> None:
        """Close every runner, loading ones too. May be called again."""
        self._closed = True
        loads = list(self._loads.values())
        self._loads.clear()
        runners = await asyncio.gather(*loads, return_exceptions=True)
        await asyncio.gather(*(runner.close() for runner in runners if isinstance(runner, ModelRunner)))

    async def _load(self, name: str) -> ModelRunner:
        runner = ModelRunner(
            partial(self._catalogue.open, name),
            microbatch_tokens=self._microbatch_tokens,
            meter=ModelMeter(self._metrics, name),
            stuck_after_seconds=self._stuck_after_seconds,
        )
        try:
            await runner.start()
        except BaseException:
            self._loads.pop(name, None)
            await runner.close()
            raise
        return runner


def _is_ready(load: asyncio.Task[ModelRunner]) -> bool:
    return load.done() and not load.cancelled() and load.exception() is None


def _note_failure(load: asyncio.Task[ModelRunner]) -> None:
    """If every caller has gone by then, the failure is still no surprise to the event loop."""
    if not load.cancelled():
        load.exception()
