"""Opens the synchronous path: chunks, vectors and a store in the caller's process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from embedfleet.bootstrap.adapters import open_store
from embedfleet.data_directory import DataDirectoryLock
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.settings import Settings
from embedfleet.traffic.synchronous import SynchronousEmbedder, claim_store


@asynccontextmanager
async def open_synchronous_embedder(
    settings: Settings, *, further_models: Sequence[str] = ()
) -> AsyncIterator[SynchronousEmbedder]:
    """Open the synchronous path, with the models of this process and a vector store of its own.

    The settings say which store: embedded in their data directory, which this process owns until the end, or
    on a server. It must not be that of a fleet. `further_models` may be named by requests beside the default.

    Raises ConfigError for the store of a fleet, DataDirectoryInUse, and Transient if the server is away.
    """
    async with AsyncExitStack() as stack:
        if settings.vector_store.in_data_directory:
            await stack.enter_async_context(DataDirectoryLock(settings.data_dir, purpose="synchronous path"))
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        await claim_store(store)
        catalogue = Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        yield SynchronousEmbedder(store, catalogue, models, settings, further_models=further_models)
