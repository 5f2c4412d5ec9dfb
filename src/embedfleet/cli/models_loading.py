"""What `models warm` and `models bench` share: which models, and each loaded as a worker would load it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedfleet.inference.backend import Role, TokenBatch
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.inference.runner import ModelRunner
    from embedfleet.metrics import Metrics
    from embedfleet.settings import Settings


def spoken_of(settings: Settings) -> list[str]:
    """The models that these settings name: the default, the embedding pool's and the catalogue's."""
    models = settings.models
    return list(dict.fromkeys((models.default, *settings.worker_pools.embedding.models, *models.catalogue)))


def chosen(names: Sequence[str], settings: Settings) -> list[str]:
    """Those given, else all that the settings speak of.

    Raises UnknownModel for a name that is none, before anything is loaded.
    """
    from embedfleet.inference.catalogue import Catalogue

    picked = list(dict.fromkeys(names)) or spoken_of(settings)
    catalogue = Catalogue(settings.models)
    for name in picked:
        catalogue.settings_of(name)
    return picked


def as_a_worker(settings: Settings) -> Settings:
    """With the threads that a worker's model has here: the worker processes of a fleet share out the cores,
    and what a calibration finds is kept by their number."""
    from embedfleet.deployment import deployment_of

    if not deployment_of(settings).worker_processes:
        return settings
    from embedfleet.host.host_pools import initial_sizes
    from embedfleet.inference.catalogue import available_cores
    from embedfleet.launchers.resources import threads_per_worker

    threads = threads_per_worker(available_cores(), initial_sizes(settings)["embedding"])
    return settings.model_copy(update={"models": settings.models.model_copy(update={"threads": threads})})


@asynccontextmanager
async def loaded(
    name: str, catalogue: Catalogue, settings: Settings, metrics: Metrics | None = None
) -> AsyncIterator[ModelRunner]:
    """The model alone in this process, calibrated; nothing of it is left afterwards. Raises as
    `ModelPool.get` does."""
    from embedfleet.inference.pool import ModelPool

    pool = ModelPool(catalogue, settings.models, metrics, calibrating=True)
    try:
        async with pool.using(name) as runner:
            yield runner
    finally:
        await pool.close()


def as_batch(texts: Sequence[str], runner: ModelRunner, role: Role) -> TokenBatch:
    """The texts as the model takes them, each cut to what it takes."""
    from embedfleet.tokenising import cut, tokenised

    return cut(tokenised(texts, runner.info, role=role), runner.info)
