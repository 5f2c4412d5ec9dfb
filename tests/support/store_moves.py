"""Moves of the vectors that a test takes by hand, and that end at any call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedfleet.bootstrap import OwnerSystem
from embedfleet.clock import SystemClock
from embedfleet.errors import VectorStoreUnavailable
from embedfleet.joining import vectors_place
from embedfleet.queue_schemas import Stage
from embedfleet.records import collections, store_moves
from embedfleet.records.scope import EveryTenant
from embedfleet.records.store_moves import StoreMove
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.store_moving import orders
from embedfleet.store_moving.mover import StoreMover
from embedfleet.store_moving.places import settings_at
from embedfleet.vectors.metered import MeteredVectorStore
from embedfleet.vectors.port import CollectionKey, Hit, VectorStore
from embedfleet.vectors.switching import SwitchingStore
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.system import TENANT

NOW = 1.0
IN_LANCE = '{"kind": "lancedb", "url": null, "path": null}'

Step = Callable[[], Awaitable[None]]


def target_of(settings: Settings) -> Settings:
    """A LanceDB in the data directory, beside the Chroma of the settings."""
    return settings_at(settings, IN_LANCE)


async def begin_move(system: OwnerSystem) -> StoreMove:
    settings, target = system.settings, target_of(system.settings)
    await orders.require_possible(system.database, settings, target)
    await orders.examine(system.database, settings, target)
    return await system.database.write(lambda conn: orders.begin(conn, settings, target, NOW))


def switching(system: OwnerSystem) -> SwitchingStore:
    """The store of the system as the process opened it, without the measuring around it."""
    assert isinstance(system.store, MeteredVectorStore)
    inner = system.store._store
    assert isinstance(inner, SwitchingStore)
    return inner


def at(settings: Settings, path: Path) -> Settings:
    """The settings with LanceDB in this directory."""
    return orders.target_of(settings, "lancedb", None, str(path))


async def store_documents(stages: StagesByHand, *names: str) -> list[str]:
    """Take documents of these names through all stages. Returns the ids of their jobs."""
    job_ids = await stages.submit([(TENANT, name, f"words of {name}") for name in names])
    for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE):
        assert await stages.do(stage, len(names)) == len(names)
    return job_ids


async def begin(system: OwnerSystem, target: Settings) -> StoreMove:
    """Order a move without a look at the target, as `--unseen` does."""
    settings = system.settings
    return await system.database.write(lambda conn: orders.begin(conn, settings, target, NOW))


@asynccontextmanager
async def moving(
    settings: Settings, target: Path, *names: str
) -> AsyncIterator[tuple[StagesByHand, StoreMove]]:
    """A system that has these documents, and the order to move its vectors to LanceDB in this directory."""
    async with stages_by_hand(settings) as stages:
        await store_documents(stages, *names)
        yield stages, await begin(stages.system, at(settings, target))


async def the_move(database: Database) -> StoreMove:
    move = await database.read(store_moves.newest)
    assert move is not None
    return move


async def the_collection(system: OwnerSystem) -> collections.Collection:
    (one,) = await system.database.read(lambda conn: collections.within(conn, EveryTenant()))
    return one


def mover_to(
    system: OwnerSystem,
    others: Mapping[str, VectorStore] | None = None,
    *,
    away: bool = False,
    **options: Any,
) -> StoreMover:
    """A mover that finds `others` in place of the stores with these part ids, or no answer at all."""
    store = switching(system)

    async def other(part_id: str) -> VectorStore:
        if away:
            raise VectorStoreUnavailable("no answer")
        return others[part_id] if others and part_id in others else await store.part(part_id)

    return StoreMover(
        system.database, system.store, other, SystemClock(), system.settings, place=vectors_place, **options
    )


class Died(BaseException):
    """The end of the process that moves the vectors."""


class Life:
    """Ends after a number of calls: what was called is done, and nothing follows."""

    def __init__(self, calls: int | None = None) -> None:
        self.left = calls

    def passed(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Died


class Mortal:
    """Passes every call on, and dies after the last one of its life. Properties and scans do not count."""

    def __init__(self, inner: Any, life: Life) -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._inner, name)
        unlimited = ("scan", "name_in_store", "with_records", "expect_mark", "sole")
        if not callable(there) or name in unlimited:
            return there

        async def call(*args: Any, **named: Any) -> Any:
            answer = await there(*args, **named)
            self._life.passed()
            return answer

        return call


def mover_of(system: OwnerSystem, life: Life | None = None) -> StoreMover:
    """Build the mover of a leader that lives so long."""
    life = life or Life()
    store = switching(system)

    async def other(part_id: str) -> VectorStore:
        return cast("VectorStore", Mortal(await store.part(part_id), life))

    return StoreMover(
        cast("Database", Mortal(system.database, life)),
        cast("VectorStore", Mortal(system.store, life)),
        other,
        SystemClock(),
        system.settings,
        place=vectors_place,
    )


class StoreWithStep(MeteredVectorStore):
    """The store of the system. Once, a step is taken after a look at its rows and before the answer."""

    def __init__(self, system: OwnerSystem, step: Step) -> None:
        super().__init__(system.store, system.metrics.store_seconds)
        self._step: Step | None = step

    async def _after_look(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            await step()

    async def vectors(self, collection: CollectionKey, ids: Any) -> tuple[list[str], NDArray[np.float32]]:
        answer = await super().vectors(collection, ids)
        await self._after_look()
        return answer

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        answer = await super().query(collection, vector, limit=limit)
        await self._after_look()
        return answer

    async def delete(self, collection: CollectionKey, ids: Any) -> None:
        await super().delete(collection, ids)
        await self._after_look()
