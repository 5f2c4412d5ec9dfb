"""A search decides where it looks, and finds its rows later. What begins or ends in between is not seen.

The store of one space answers late, so that all of it happens between these two steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.queue_schemas import SearchHits
from embedfleet.records.scope_marks import mark_of
from embedfleet.searching.search import SearchRequest, SearchService, SpacesSearch
from embedfleet.sql.states import ExperimentPhase, QuestionSource, SwitchPhase
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import CollectionKey, Hit, VectorStore
from support.databases import on_both_databases
from support.experiments import administration, begin, row
from support.model_switches import MODELS, NEW, OLD, document, search, until_phase
from support.system import TENANT, Configure, Running, running, until

THIRD, FOURTH = "shortest", "a fourth"
QUICK: dict[str, Any] = {
    "models": MODELS
    | {
        "catalogue": MODELS["catalogue"]
        | {
            THIRD: {"backend": "static", "dimensions": 64},
            FOURTH: {"backend": "static", "dimensions": 32},
        }
    }
}
MODEL_OF = (OLD, THIRD, NEW)
SOME = 9
QUERY = "old in winter"


class LateStore(PassingStore):
    """The store of the system, which reads the space of one model only when it is let go on."""

    def __init__(self, inner: VectorStore, space: str) -> None:
        super().__init__(inner)
        self._space = space
        self.asked = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        await self._wait(collection)
        return await super().query(collection, vector, limit=limit)

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        await self._wait(collection)
        return await super().vectors(collection, ids)

    async def _wait(self, collection: CollectionKey) -> None:
        if collection.space == self._space:
            self.asked.set()
            await self.goes_on.wait()


class LateSearch:
    """A search of which one space is read late. `hits` has its answer when it is let go on."""

    def __init__(self, store: LateStore, task: asyncio.Task[SearchHits]) -> None:
        self._store = store
        self._task = task

    async def hits(self) -> SearchHits:
        self._store.goes_on.set()
        return await self._task


@asynccontextmanager
async def late_search(fleet: Running, late: str, **more: Any) -> AsyncIterator[LateSearch]:
    """A search that has decided where to look, and has not read the space of the model `late` yet."""
    system = fleet.system
    store = LateStore(system.store, system.catalogue.info(late).space)
    spaces = SpacesSearch(system.database, store, system.embedder, exact_scan_rows=100)
    service = SearchService(system.database, spaces)
    request = SearchRequest(query=QUERY, limit=99, **more)
    task = asyncio.create_task(service.search(TENANT, request))
    try:
        await store.asked.wait()
        yield LateSearch(store, task)
    finally:
        store.goes_on.set()
        await asyncio.wait([task])


async def submit_some(fleet: Running) -> None:
    for number in range(SOME):
        await fleet.ingest(**document(number), model=MODEL_OF[number % 3])


def places(hits: SearchHits) -> list[tuple[str, str | None]]:
    """Where each document was found. One that is found twice is there twice."""
    return sorted([(hit.media_id, hit.model) for hit in hits])


async def filled(fleet: Running) -> str:
    """Compare the new model with the route, until its space has a copy of each document."""
    begun = await begin(fleet, model_a="route", source=QuestionSource.CLICKS, keep=True)

    async def is_past() -> bool:
        return (await row(fleet, begun.experiment_id)).phase is not ExperimentPhase.PREPARING

    await until(is_past, fleet.system.database)
    return begun.experiment_id


@on_both_databases
async def test_copies_of_a_trial_that_begins_during_a_search_are_not_seen(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet)
        before = places(await search(fleet, QUERY, limit=99))
        assert before == sorted((f"doc-{one}", MODEL_OF[one % 3]) for one in range(SOME))
        async with late_search(fleet, NEW) as late:
            await filled(fleet)
            assert places(await late.hits()) == before


async def test_nor_by_a_search_that_names_the_model_of_the_trial(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet)
        async with late_search(fleet, NEW, model=NEW) as late:
            await filled(fleet)
            named = await late.hits()
        assert places(named) == [(f"doc-{one}", NEW) for one in range(2, SOME, 3)]


async def test_a_document_that_moves_to_a_new_space_is_not_taken_for_its_copy(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet)
        await filled(fleet)
        async with late_search(fleet, NEW) as late:
            # No space that the search knows has it now, but for the copy.
            assert (await fleet.ingest(**document(0, more="Changed. "), model=FOURTH)).model == FOURTH
            found = dict(places(await late.hits()))
        assert (found["doc-0"], len(found)) == (FOURTH, SOME)


async def test_what_begins_and_ends_during_a_search_is_noticed(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        await submit_some(fleet)
        look = partial(mark_of, tenant=TENANT)
        before = await fleet.system.database.read(look)
        assert await fleet.system.database.read(look) == before
        experiment_id = await filled(fleet)
        during = await fleet.system.database.read(look)
        await administration(fleet).end(experiment_id)
        await administration(fleet).end(experiment_id)
        await until_phase(fleet, SwitchPhase.ENDED)
        assert len({before, during, await fleet.system.database.read(look)}) == 3


async def test_a_space_on_trial_is_not_found_by_its_model_beside_one_space(configure: Configure) -> None:
    async with running(configure(**QUICK)) as fleet:
        for number in range(3):
            await fleet.ingest(**document(number))
        begun = await begin(fleet, source=QuestionSource.CLICKS, keep=True)

        async def is_past() -> bool:
            return (await row(fleet, begun.experiment_id)).phase is not ExperimentPhase.PREPARING

        await until(is_past, fleet.system.database)
        named = await search(fleet, QUERY, model=NEW)
        assert (len(named), named.notice) == (
            0,
            f"tenant `{TENANT}` has no documents of model `{NEW}`, but 3 of `{OLD}`",
        )
