"""The vector store is emptied, damaged or restored in the middle of a switch, which goes on."""

from __future__ import annotations

import asyncio
from functools import partial
from time import time

import pytest

from embedfleet.cli.verify import rebuild_store, verify_store
from embedfleet.clock import SystemClock
from embedfleet.model_switching import orders
from embedfleet.records import collections, model_switches
from embedfleet.records.scope import EveryTenant
from embedfleet.repair.backup import database_file, write_backup
from embedfleet.repair.rebuilding import Rebuilding
from embedfleet.repair.restoring import restore_database
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Verification
from embedfleet.settings import Settings
from embedfleet.sql.states import SwitchPhase
from support.databases import on_both_databases
from support.model_switches import MODELS, NEW, OLD, begin, document, order, search, switch_of, until_phase
from support.system import Configure, Running, running, take_ledger, until

SOME = 6
QUERY = "old things of the north"
in_both_phases = pytest.mark.parametrize("phase", [SwitchPhase.FILLING, SwitchPhase.SERVING])


async def switch_to(fleet: Running, phase: SwitchPhase) -> None:
    """Begin a switch of some documents. In `filling` it stops when some of them are in both spaces."""
    database = fleet.system.database
    for number in range(SOME):
        await fleet.ingest(**document(number))
    await begin(fleet, most_jobs=1)
    if phase is SwitchPhase.FILLING:
        switch = await switch_of(database)

        async def some_are_there() -> bool:
            return (await database.read(partial(model_switches.counts, switch=switch))).there > 0

        await until(some_are_there, database)
        await order(fleet, orders.pause)
    await until_phase(fleet, phase)
    await fleet.ingest(**document(50))


async def go_on(fleet: Running, phase: SwitchPhase) -> None:
    """The switch comes to its end, and every document is found in each phase on the way."""
    every = {f"doc-{number}" for number in (*range(SOME), 50)}
    answering = OLD if phase is SwitchPhase.FILLING else NEW
    assert await look(fleet) == (every, {answering})
    if phase is SwitchPhase.FILLING:
        await order(fleet, orders.resume)
        await order(fleet, orders.throttle, most_jobs=None)
    served = await until_phase(fleet, SwitchPhase.SERVING)
    if phase is SwitchPhase.FILLING:
        assert served.findings["coverage"]["share"] == 1.0
    for percent, model in ((0.0, OLD), (100.0, NEW)):
        await order(fleet, orders.serve, percent=percent, now=time())
        assert await look(fleet) == (every, {model})
    await order(fleet, orders.retire, now=time())
    ended = await until_phase(fleet, SwitchPhase.ENDED)
    assert ended.findings["receipt"]["vectors_left"] == 0
    assert await look(fleet) == (every, {NEW})
    await fleet.settled()
    (await take_ledger(fleet.system)).assert_exact()


async def look(fleet: Running) -> tuple[set[str], set[str]]:
    hits = await search(fleet, QUERY, limit=100)
    assert (hits.not_searched, hits.notice) == ((), None)
    return {hit.media_id for hit in hits}, set(hits.models)


async def read_back(settings: Settings) -> None:
    """No vector of either space is missing, wrong or surplus."""
    found = await verify_store(settings, EveryTenant(), sampling=None, repair=False)
    assert [one.count for one, _ in found.found] == [0, 0]
    assert all(one.rows for one, _ in found.found)


@on_both_databases
@in_both_phases
async def test_both_spaces_are_filled_again_and_the_switch_goes_on(
    configure: Configure, phase: SwitchPhase
) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        await switch_to(fleet, phase)
    found = await rebuild_store(settings, EveryTenant())
    assert len(found.found) == 2
    await read_back(settings)
    async with running(settings) as fleet:
        await go_on(fleet, phase)


@in_both_phases
async def test_a_backup_of_a_switch_under_way_goes_on_where_it_is_restored(
    configure: Configure, phase: SwitchPhase
) -> None:
    settings = configure(models=MODELS)
    file = settings.data_dir.parent / "backup.tar"
    async with running(settings) as fleet:
        await switch_to(fleet, phase)
        await asyncio.to_thread(write_backup, database_file(settings), file, overwrite=False)
        # What comes after the backup is lost with it, in both spaces.
        await fleet.ingest(**document(60))
        await order(fleet, orders.resume)
        await until_phase(fleet, SwitchPhase.SERVING)
    await restore_database(settings, file, replace=True)
    await rebuild_store(settings, EveryTenant())
    await read_back(settings)
    async with running(settings) as fleet:
        assert (await switch_of(fleet.system.database)).phase is phase
        await go_on(fleet, phase)


@on_both_databases
async def test_vectors_that_are_lost_while_a_switch_works_are_mended_beside_it(configure: Configure) -> None:
    """As `verify --repair` does beside the workers of a fleet, again and again, from before its gate on."""
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        system = fleet.system
        for number in range(SOME):
            await fleet.ingest(**document(number))
        truth = TrueVectors(system.database, system.catalogue, system.models, caching=True, now=time())
        rebuilding = Rebuilding(system.database, system.store, truth, SystemClock(), with_documents=True)
        lost = 0

        async def damage_and_mend() -> None:
            nonlocal lost
            while True:
                verification = Verification(system.database, system.store, truth)
                for one in await system.database.read(partial(collections.within, scope=EveryTenant())):
                    ids = [row_id async for page, _ in system.store.scan(one) for row_id in page]
                    await system.store.delete(one, ids[:1])
                    lost += len(ids[:1])
                    await rebuilding.mend(await verification.check(one))

        mending = asyncio.create_task(damage_and_mend())
        await begin(fleet, most_jobs=1)
        await until_phase(fleet, SwitchPhase.CHECKING, SwitchPhase.REFUSED, SwitchPhase.SERVING)
        mending.cancel()
        await asyncio.wait([mending])
        assert lost > 1
        verification = Verification(system.database, system.store, truth)
        for one in await system.database.read(partial(collections.within, scope=EveryTenant())):
            await rebuilding.mend(await verification.check(one))
        reached = await until_phase(fleet, SwitchPhase.REFUSED, SwitchPhase.SERVING)
        if reached.phase is SwitchPhase.REFUSED:
            # The gate has looked between a loss and its mending, and says so.
            assert "examine and repair" in " ".join(reached.findings["gate"]["reasons"])
            await order(fleet, orders.recheck, now=time())
        await until_phase(fleet, SwitchPhase.SERVING)
        await fleet.ingest(**document(50))
        await go_on(fleet, SwitchPhase.SERVING)
