"""Opens what works on the stored rows: repair, adoption, export, and the parts of a system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from embedfleet.adoption.adopting import Target
from embedfleet.adoption.writing import Writing
from embedfleet.bootstrap.adapters import (
    entered_database,
    entered_views,
    open_broker,
    open_joined_store,
    open_store,
    owned_database,
)
from embedfleet.bootstrap.systems import RepairSystem
from embedfleet.clock import Clock, SystemClock
from embedfleet.deployment import deployment_of
from embedfleet.errors import InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.joining import OpenedPart, Purpose, queues_part, vectors_part
from embedfleet.lifecycle.admission import Admission
from embedfleet.queue_schemas import UserTier
from embedfleet.records import collections as collection_records
from embedfleet.records import store_moves
from embedfleet.records import views as view_records
from embedfleet.records.collections import Collection
from embedfleet.records.scope import EveryTenant, Scope
from embedfleet.repair.rebuilding import Rebuilding, open_emptied_store
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Sampling, Verification
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.store_moving.places import settings_of_system
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.registry import store_kind
from embedfleet.views.keeping import ViewKeeper, recipes_of
from embedfleet.views.mending import ViewMending
from embedfleet.views.verification import ViewVerification
from embedfleet.views.view import View


@asynccontextmanager
async def open_repair(
    settings: Settings,
    *,
    purpose: str,
    scope: Scope,
    empty: bool = False,
    filling: bool = False,
    sampling: Sampling | None = None,
) -> AsyncIterator[RepairSystem]:
    """Open the parts that verify and mend the vector store. In embedded mode, own the data directory.

    With `empty`, this drops the collections within the scope first. If the store in the data directory fails
    even at that, the whole store is put aside, and `collections` are those of every tenant. With `filling`,
    the caller writes what is missing, so a store that lost its content becomes the system's store again.

    Raises as `open_owner` does.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await owned_database(stack, settings, purpose)
        store, put_aside, collections = await _entered_store_to_repair(
            stack, settings, database, clock, scope, empty=empty, filling=filling
        )
        catalogue = Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        truth = TrueVectors(
            database, catalogue, models, caching=settings.embedding_cache.enabled, now=clock.now()
        )
        rebuilding = Rebuilding(
            database, store, truth, clock, with_documents=settings.vector_store.store_documents
        )
        verification = Verification(database, store, truth, sampling=sampling)
        views = entered_views(stack, settings)
        view_verification = ViewVerification(database, store)
        if filling or empty:
            # The leader decides which views there are. Here the settings may be those of another host.
            await database.write(partial(view_records.add_missing, recipes=recipes_of(views)))
        yield RepairSystem(
            collections,
            put_aside,
            verification,
            rebuilding,
            truth,
            tenants=sorted({one.tenant for one in collections}),
            views=views,
            view_verification=view_verification,
            view_mending=_view_mending(views, view_verification, database, store, clock),
        )


async def _entered_store_to_repair(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    clock: Clock,
    scope: Scope,
    *,
    empty: bool,
    filling: bool,
) -> tuple[VectorStore, Path | None, Sequence[Collection]]:
    """Return the store, where an unusable one was put, and the collections to repair. See `open_repair`."""
    collections = await database.read(partial(collection_records.within, scope=scope))
    put_aside: Path | None = None
    # The rows of one tenant do not make up for all others that are lost.
    filled = (filling or empty) and isinstance(scope, EveryTenant)
    purpose_of_store = Purpose.FILL if filled else Purpose.EXAMINE
    opening = partial(open_joined_store, settings, database, clock, purpose_of_store)
    if empty:
        there = await settings_of_system(settings, database)
        own = store_kind(there.vector_store.kind).own_directory(there)
        store, put_aside = await open_emptied_store(opening, collections, own)
    else:
        store = await opening()
    stack.push_async_callback(store.close)
    if put_aside is not None:
        collections = await database.read(partial(collection_records.within, scope=EveryTenant()))
    return store, put_aside, collections


def _view_mending(
    views: Sequence[View],
    verification: ViewVerification,
    database: Database,
    store: VectorStore,
    clock: Clock,
) -> Mapping[str, ViewMending]:
    """Return what mends each view, by its name."""
    return {
        view.name: ViewMending(
            ViewKeeper(view, database=database, store=store, clock=clock),
            verification,
            database=database,
            clock=clock,
        )
        for view in views
    }


@asynccontextmanager
async def open_adoption(settings: Settings, *, purpose: str, writing: bool) -> AsyncIterator[Target]:
    """Open the parts that take over collections of another system.

    With `writing`, in embedded mode, this owns the data directory. Without it no document is written, and an
    orchestrator may be running.

    Raises as `open_owner` does.
    """
    clock = SystemClock()
    catalogue = Catalogue(settings.models)
    async with AsyncExitStack() as stack:
        writer: Writing | None = None
        if writing:
            database = await owned_database(stack, settings, purpose)
            store = await open_joined_store(settings, database, clock, Purpose.USE)
            stack.push_async_callback(store.close)
            writer = Writing(
                database,
                store,
                clock,
                default_tier=UserTier(settings.tenants.default_tier),
                with_documents=settings.vector_store.store_documents,
                caching=settings.embedding_cache.enabled,
            )
        else:
            deployment_of(settings)
            database = await entered_database(stack, settings)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        admission = Admission(settings, catalogue, clock)
        yield Target(settings, database, catalogue, models, admission, writer)


@asynccontextmanager
async def open_parts(settings: Settings, *, purpose: str) -> AsyncIterator[tuple[Database, list[OpenedPart]]]:
    """Open the database and the marked parts of these settings, whatever system the parts belong to.

    In embedded mode, own the data directory. Raises as `open_owner` does.
    """
    async with AsyncExitStack() as stack:
        database = await owned_database(stack, settings, purpose)
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        if await database.read(store_moves.running) is not None:
            raise InvalidRequest("the vectors move to another store: retire or abort that move first")
        parts = [queues_part(settings, broker), vectors_part(settings, store)]
        yield database, [part for part in parts if part is not None]


@asynccontextmanager
async def open_stored(settings: Settings, *, purpose: str) -> AsyncIterator[tuple[Database, VectorStore]]:
    """Open the database and the vector store to read all that is stored.

    In embedded mode, own the data directory. Raises as `open_owner` does.
    """
    async with AsyncExitStack() as stack:
        database = await owned_database(stack, settings, purpose)
        store = await open_joined_store(settings, database, SystemClock(), Purpose.READ)
        stack.push_async_callback(store.close)
        yield database, store
