"""The vectors move to another store while a tenant is switched to another model: neither harms the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any

import pytest
from sqlalchemy import Connection, select

from embedfleet.errors import StoreMoved
from embedfleet.model_switching import orders, retiring
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import collections, store_moves
from embedfleet.records.scope import EveryTenant
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Verification
from embedfleet.searching.search import SearchRequest
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import MovePhase, SwitchPhase
from embedfleet.store_moving import orders as move_orders
from embedfleet.store_moving.mover import StoreMover
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import VectorStore
from support.databases import on_both_databases
from support.model_switches import (
    MODELS,
    NEW,
    OLD,
    HeldCatalogue,
    begin,
    document,
    order,
    switch_of,
    until_phase,
)
from support.stages_by_hand import stages_by_hand
from support.store_moves import NOW, begin_move, switching, the_move
from support.system import TENANT, Configure, Running, ledger_of, running, take_ledger, until

SOME = 8


def completed(conn: Connection) -> set[str]:
    """The documents of which readers must see a version."""
    query = (
        select(tables.documents.c.media_id)
        .join(tables.jobs, tables.jobs.c.document_id == tables.documents.c.document_id)
        .where(tables.jobs.c.status == JobStatus.COMPLETED, tables.jobs.c.switch_id.is_(None))
    )
    return set(conn.execute(query).scalars())


async def look(fleet: Running) -> set[str]:
    """Search once. Every document that was completed before is found, in one space. Returns the models."""
    expected = await fleet.system.database.read(completed)
    hits = await fleet.system.search.search(TENANT, SearchRequest(query="boats in winter", limit=1000))
    found = {hit.media_id for hit in hits}
    assert expected <= found, f"lacking {sorted(expected - found)}: {hits.notice}"
    assert len(hits.models) == 1
    return set(hits.models)


@asynccontextmanager
async def searched(fleet: Running) -> AsyncIterator[None]:
    """Searches go on without a pause while the block runs."""

    async def search_on() -> None:
        while True:
            await look(fleet)

    searching = asyncio.create_task(search_on())
    try:
        yield
        assert not searching.done(), searching.exception()
    finally:
        searching.cancel()
        await asyncio.wait([searching])


async def is_kept(database: Database, *, in_target: bool) -> bool:
    stands = await database.read(move_orders.status)
    assert stands is not None
    return stands.move.phase is MovePhase.KEEPING and stands.switched is in_target


async def move_there(fleet: Running) -> None:
    """Move the vectors to LanceDB; a move of before has ended."""
    await begin_move(fleet.system)
    await until(lambda: is_kept(fleet.system.database, in_target=True), fleet.system.database)


async def move_back(fleet: Running) -> None:
    """Move them back, and give up the store in which they were."""
    database = fleet.system.database
    await database.write(lambda conn: move_orders.go_back(conn, NOW))
    await until(lambda: is_kept(database, in_target=False), database)
    await database.write(lambda conn: move_orders.abort(conn, NOW))

    async def ended() -> bool:
        return (await the_move(database)).phase is MovePhase.ENDED

    await until(ended, database)


async def verify(fleet: Running) -> None:
    """Compare all vectors of both spaces with SQL, as an operator would."""
    system = fleet.system
    await fleet.settled()
    await system.store.follow()
    truth = TrueVectors(system.database, system.catalogue, system.models, caching=False, now=NOW)
    verification = Verification(system.database, system.store, truth)
    for collection in await system.database.read(partial(collections.within, scope=EveryTenant())):
        assert (await verification.check(collection, check_without_checksum=True)).count == 0
    (await take_ledger(system)).assert_exact()


@dataclass
class Calls:
    """How often something was called."""

    number: int = 0


def once_within(
    what: Callable[..., Awaitable[Any]], act: Callable[[], Awaitable[None]], calls: Calls
) -> Callable[..., Awaitable[Any]]:
    """Return `what`, with `act` done after its first call and before the answer."""

    async def call(*given: Any, **named: Any) -> Any:
        answer = await what(*given, **named)
        calls.number += 1
        if calls.number == 1:
            await act()
        return answer

    return call


@pytest.mark.slow
@on_both_databases
async def test_the_vectors_move_in_every_phase_of_a_switch(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {"max_latency_ratio": 1e6, "k": 1}
    settings = configure(models=MODELS, model_switching={"gate": gate})
    catalogue = HeldCatalogue(settings.models, spoilt=1.0)
    async with running(settings, catalogue=catalogue) as fleet:
        database = fleet.system.database
        for number in range(SOME):
            await fleet.ingest(**document(number))
        # The reading back is overtaken by the move: it had read SQL, but not yet the store.
        readings = Calls()
        overtaken = once_within(Verification._expected_checksums, lambda: move_back(fleet), readings)
        async with searched(fleet):
            # `filling`: the copies wait for the model while the move begins and comes to its end.
            catalogue.goes_on.clear()
            await begin(fleet)
            await fleet.submit(**document(50))
            await move_there(fleet)
            monkeypatch.setattr(Verification, "_expected_checksums", lambda *given: overtaken(*given))
            catalogue.goes_on.set()
            # `checking`: see `overtaken`.
            refused = await until_phase(fleet, SwitchPhase.REFUSED)
            assert refused.findings["coverage"]["share"] == 1.0
            assert "known items" in " ".join(refused.findings["gate"]["reasons"])
            assert readings.number > 1, "what was read of two stores was taken for a whole"
            # `refused`
            await fleet.submit(**document(51))
            await move_there(fleet)
            await order(fleet, orders.force, now=time(), actor="op")
            await until_phase(fleet, SwitchPhase.SERVING)
            # `serving`, in both directions
            assert await look(fleet) == {NEW}
            await fleet.submit(**document(52))
            await move_back(fleet)
            await order(fleet, orders.rollback, now=time())
            assert await look(fleet) == {OLD}
            await fleet.ingest(**document(53))
            await order(fleet, orders.serve, percent=100.0, now=time())
            await verify(fleet)
            # `retiring`: both begin at once.
            await begin_move(fleet.system)
            await order(fleet, orders.retire, now=time())
            ended = await until_phase(fleet, SwitchPhase.ENDED)
            assert ended.findings["receipt"]["vectors_left"] == 0
            await until(lambda: is_kept(database, in_target=True), database)
        await verify(fleet)
        assert await look(fleet) == {NEW}
        await assert_in_step(fleet)


async def assert_in_step(fleet: Running) -> None:
    """The store that is kept beside the system's has the same rows."""
    database = fleet.system.database

    async def same() -> bool:
        return not await database.read(store_moves.differs)

    await until(same, database)
    move = await the_move(database)
    (await ledger_of(database, await switching(fleet.system).part(move.source_part))).assert_exact()


@on_both_databases
async def test_a_space_that_is_emptied_during_a_move_is_empty_in_both_stores(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gets the other store after the space was dropped from this one, and before SQL knows it."""
    settings = configure(models=MODELS)
    may_move = asyncio.Event()
    cut_over = StoreMover._cut_over

    async def waiting_cut_over(*given: Any) -> bool:
        await may_move.wait()
        return await cut_over(*given)

    monkeypatch.setattr(StoreMover, "_cut_over", waiting_cut_over)
    async with running(settings) as fleet:
        database = fleet.system.database
        for number in range(SOME):
            await fleet.ingest(**document(number))
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        await begin_move(fleet.system)

        async def copied() -> bool:
            move = await the_move(database)
            return move.phase is MovePhase.VERIFYING and not await database.read(store_moves.differs)

        await until(copied, database)

        async def let_it_move() -> None:
            may_move.set()
            await until(lambda: is_kept(database, in_target=True), database)

        drops = Calls()
        dropping = once_within(ChromaVectorStore.drop_collection, let_it_move, drops)
        monkeypatch.setattr(ChromaVectorStore, "drop_collection", lambda *given: dropping(*given))
        async with searched(fleet):
            await order(fleet, orders.retire, now=time())
            ended = await until_phase(fleet, SwitchPhase.ENDED)
        assert drops.number
        assert ended.findings["receipt"]["vectors_left"] == 0
        await verify(fleet)
        await assert_in_step(fleet)


class StoreOfBefore(PassingStore):
    """The store of a process that has not noticed yet that the vectors have moved."""

    def __init__(self, inner: VectorStore, part_id: str) -> None:
        super().__init__(inner)
        self._part_id = part_id

    @property
    def part_id(self) -> str:
        return self._part_id


async def test_a_process_with_the_store_of_before_does_not_say_that_a_space_is_empty(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        await fleet.ingest(**document(1))
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        await move_there(fleet)
    async with stages_by_hand(settings) as stages:
        database = stages.system.database
        await database.write(partial(orders.retire, tenant=TENANT, now=time()))
        switch = await switch_of(database)
        await retiring.settle_all(database, switch, time())
        move = await the_move(database)
        before = StoreOfBefore(await switching(stages.system).part(move.source_part), move.source_part)
        with pytest.raises(StoreMoved):
            await retiring.finish(database, before, switch)
        receipt = await retiring.finish(database, stages.system.store, switch)
        assert receipt is not None
        assert await stages.system.store.count(switch.emptied[0]) == 0
