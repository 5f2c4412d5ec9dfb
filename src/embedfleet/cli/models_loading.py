"""Shared by `models warm` and `models bench`: selects models, and loads each as a worker does."""

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


def configured_models(settings: Settings) -> list[str]:
    """The models that these settings name: the default, the embedding pool's and the catalogue's."""
    models = settings.models
    return list(dict.fromkeys((models.default, *settings.worker_pools.embedding.models, *models.catalogue)))


def selected_models(names: Sequence[str], settings: Settings) -> list[str]:
    """The given models, or all configured ones if none is given.

    Raises UnknownModel for an unknown name, before any model is loaded.
    """
    from embedfleet.inference.catalogue import Catalogue

    selected = list(dict.fromkeys(names)) or configured_models(settings)
    catalogue = Catalogue(settings.models)
    for name in selected:
        catalogue.settings_of(name)
    return selected


def with_worker_threads(settings: Settings) -> Settings:
    """The settings with as many threads as a worker's model has on this host.

    The worker processes of a fleet divide the cores among them. A calibration is stored for a number of
    threads, so it must be made with the number that the workers use.
    """
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
    """Load and calibrate a model; unload it afterwards. Raises what `ModelPool.get` raises."""
    from embedfleet.inference.pool import ModelPool

    pool = ModelPool(catalogue, settings.models, metrics, calibrating=True)
    try:
        async with pool.using(name) as runner:
            yield runner
    finally:
        await pool.close()


def as_batch(texts: Sequence[str], runner: ModelRunner, role: Role) -> TokenBatch:
    """Tokenise the texts for the model, and cut each to the model's limit."""
    from embedfleet.tokenising import cut, tokenised

    return cut(tokenised(texts, runner.info, role=role), runner.info)
