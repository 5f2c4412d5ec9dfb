"""The vectors move to another store while the system works: nothing is lost, doubled or left behind."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic

import numpy as np
import pytest
from sqlalchemy import Connection, func, select, text

from embedfleet.errors import InvalidRequest, StoreMoved
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.records import collections, store_fence, store_moves
from embedfleet.records.scope import EveryTenant
from embedfleet.searching.nearest_passages import NearestPassages
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving import orders
from embedfleet.store_moving.places import current_part
from embedfleet.vectors.port import VectorRows
from embedfleet.workers.storage_worker import StorageLoop
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.store_moves import (
    NOW,
    Died,
    Life,
    StoreWithStep,
    begin_move,
    mover_of,
    store_documents,
    switching,
    target_of,
)
from support.system import (
    ONE_EACH,
    TENANT,
    Running,
    all_at_the_end,
    ledger_of,
    paragraphs,
    running,
    take_ledger,
    until,
)


async def in_phase(database: Database, phase: MovePhase) -> None:
    async def reached() -> bool:
        move = await database.read(store_moves.newest)
        return move is not None and move.phase is phase

    await until(reached, database)


async def in_step(database: Database) -> None:
    async def same() -> bool:
        return not await database.read(store_moves.differs)

    await until(same, database)


async def found(one: Running, query: str) -> set[str]:
    hits = await one.system.search.search(TENANT, SearchRequest(query=query, limit=50))
    return {hit.media_id for hit in hits}


async def test_the_vectors_move_while_documents_come_go_and_are_searched(settings: Settings) -> None:
    async with running(settings) as one:
        database = one.system.database
        for n in range(2):
            await one.ingest(f"before{n}", paragraphs(f"before{n}", 5), chunking_config=ONE_EACH)
        move = await begin_move(one.system)
        during = [
            await one.submit(f"during{n}", paragraphs(f"during{n}", 5), chunking_config=ONE_EACH)
            for n in range(4)
        ]
        await in_phase(database, MovePhase.KEEPING)
        for job_id in during:
            await one.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await one.ingest("after", paragraphs("after", 5), chunking_config=ONE_EACH)
        everything = {"before0", "before1", *(f"during{n}" for n in range(4)), "after"}
        assert await found(one, "paragraph") == everything
        (await take_ledger(one.system)).assert_exact()

        # What is deleted after the switch leaves the previous store too.
        await one.jobs.of(TENANT).delete_document(media_id="before0")
        await one.settled()
        await in_step(database)
        before = await switching(one.system).part(move.source_part)
        (await ledger_of(database, before)).assert_exact()

        # The way back finds the previous store complete.
        await database.write(lambda conn: orders.go_back(conn, NOW))
        await until(lambda: is_switched(database, back=True), database)
        await one.system.store.follow()
        assert one.system.store.part_id == move.source_part
        assert await found(one, "paragraph") == everything - {"before0"}
        (await take_ledger(one.system)).assert_exact()

        # The move is given up: the other store is emptied.
        await database.write(lambda conn: orders.abort(conn, NOW))
        await in_phase(database, MovePhase.ENDED)
        other = await switching(one.system).part(move.target_part)
        assert (await ledger_of(database, other)).held == frozenset()


async def is_switched(database: Database, *, back: bool = False) -> bool:
    stands = await database.read(orders.status)
    assert stands is not None
    return stands.move.phase is MovePhase.KEEPING and stands.switched is not back


@on_both_databases
async def test_a_mover_may_die_after_any_call(settings: Settings) -> None:
    """Each mover lives one call longer than the one before, so that every call is the last one of some."""
    async with stages_by_hand(settings) as stages:
        system = stages.system
        await store_documents(stages, "a", "b", "c")
        await begin_move(system)
        died = 0
        while not await is_switched(system.database):
            try:
                await mover_of(system, Life(died + 1)).step()
            except Died:
                died += 1
        assert died > 10, "a move has more calls than that"
        (await take_ledger(system)).assert_exact()
        assert await store_documents(stages, "d")
        await mover_of(system).step()
        assert not await system.database.read(store_moves.differs)


@on_both_databases
async def test_rows_that_were_written_to_the_previous_store_do_not_count_after_the_switch(
    settings: Settings,
) -> None:
    """I2: a phase that was looked at before the write is no barrier, so the commit looks."""
    async with stages_by_hand(settings) as stages:
        system = stages.system
        await store_documents(stages, "earlier")

        async def move() -> None:
            await begin_move(system)
            await mover_of(system).step()
            assert await is_switched(system.database)

        (job_id,) = await stages.submit([(TENANT, "late", "words of a late document")])
        await stages.do(Stage.CHUNKING, 1)
        await stages.do(Stage.EMBEDDING, 1)
        leases = await stages.claim(Stage.STORAGE, 1)
        store = StoreWithStep(system, move)
        loop = StorageLoop("s", stages.services, store=store, settings=settings.vector_store)
        with pytest.raises(StoreMoved):
            await loop.process(leases, all_at_the_end)
        assert await loop.process(leases, all_at_the_end) == {}
        assert await stages.statuses([job_id]) == [JobStatus.COMPLETED]
        (await take_ledger(system)).assert_exact()


@on_both_databases
async def test_a_search_that_asked_the_previous_store_asks_again(settings: Settings) -> None:
    """I1: the document was stored after the switch, so the store that was asked does not have it."""
    async with stages_by_hand(settings) as stages:
        system = stages.system
        await store_documents(stages, "first")

        async def move() -> None:
            await begin_move(system)
            await mover_of(system).step()
            await system.store.follow()
            await store_documents(stages, "second")

        (collection,) = await system.database.read(lambda conn: collections.of_tenant(conn, TENANT))
        vector = np.ones(collection.dim, dtype=np.float32)
        passages = NearestPassages(system.database, StoreWithStep(system, move), exact_scan_rows=0)
        hits = await passages.find(collection, vector, SearchRequest(query="words"), most=5)
        assert {hit.media_id for hit in hits.hits} == {"first", "second"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_switch_waits_for_a_unit_that_has_recorded_and_not_yet_committed(
    settings: Settings, database_url: str
) -> None:
    async with stages_by_hand(settings) as stages:
        system = stages.system
        await store_documents(stages, "first")
        await begin_move(system)
        await mover_of(system).step()
        await system.database.write(lambda conn: orders.go_back(conn, NOW))
        move = await system.database.read(store_moves.running)
        assert move is not None
        await system.database.write(lambda conn: store_moves.enter(conn, move, MovePhase.CLOSING, NOW))
        closed = await system.database.read(store_moves.running)
        assert closed is not None
        part = await system.database.read(current_part)
        assert part is not None

        has_recorded = threading.Event()

        def record(conn: Connection) -> None:
            conn.execute(tables.vectors.update().values(writes=tables.vectors.c.writes + 1))
            has_recorded.set()
            waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'vectors'::regclass")
            give_up_at = monotonic() + HANG_SECONDS
            while not conn.execute(waits).scalar_one():
                assert monotonic() < give_up_at, "the switch does not wait"
            store_fence.require_current(conn, part.part_id)

        recording = asyncio.create_task(system.database.write(record))
        await asyncio.to_thread(has_recorded.wait, HANG_SECONDS)
        switched = await system.database.write(
            lambda conn: store_moves.switch(conn, closed, "elsewhere", NOW)
        )
        await recording
        assert not switched, "the row that was recorded is not in the other store yet"


async def test_rows_that_the_other_store_lost_or_made_up_are_found_before_the_switch(
    settings: Settings,
) -> None:
    """I4: what was noted when a row was copied is not enough."""
    async with stages_by_hand(settings) as stages:
        system = stages.system
        await store_documents(stages, "a", "b", "c")
        move = await begin_move(system)
        await system.database.write(lambda conn: store_moves.enter(conn, move, MovePhase.COPYING, NOW))
        while (await _phase(system.database)) is MovePhase.COPYING:
            # Ends before the reading: the move has entered the phase of the reading, and goes on later.
            await _until_verifying(stages)
        other = await switching(system).part(move.target_part)
        (collection,) = await system.database.read(lambda conn: collections.within(conn, EveryTenant()))
        ids, vectors = await other.vectors(collection, await _ids(system.database))
        await other.delete(collection, ids[:1])
        wrong = VectorRows(ids[1:2], vectors[2:3], [{"media_id": "b"}], None)
        await other.upsert(collection, wrong)
        await other.upsert(collection, VectorRows(["00" * 16], vectors[:1], [{"media_id": "x"}], None))
        await mover_of(system).step()
        assert await is_switched(system.database)
        (await take_ledger(system)).assert_exact()
        after = dict(zip(*(await system.store.vectors(collection, ids)), strict=True))
        assert all((after[row_id] == vector).all() for row_id, vector in zip(ids, vectors, strict=True))


async def _phase(database: Database) -> MovePhase:
    move = await database.read(store_moves.newest)
    assert move is not None
    return move.phase


async def _until_verifying(stages: StagesByHand) -> None:
    for calls in range(1, 100):
        try:
            await mover_of(stages.system, Life(calls)).step()
        except Died:
            if await _phase(stages.system.database) is not MovePhase.COPYING:
                return
    raise AssertionError("the move never came to its reading")


async def _ids(database: Database) -> list[str]:
    stored = select(tables.vectors.c.chunk_id).order_by(tables.vectors.c.chunk_id)
    return [value.hex() for value in await database.read(lambda conn: list(conn.execute(stored).scalars()))]


async def test_the_settings_must_name_the_new_store_before_the_old_one_is_retired(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        system = stages.system
        await store_documents(stages, "a")
        move = await begin_move(system)
        with pytest.raises(InvalidRequest, match="retired after the switch"):
            await system.database.write(lambda conn: orders.retire(conn, settings, NOW))
        await mover_of(system).step()
        with pytest.raises(InvalidRequest, match="settings still name"):
            await system.database.write(lambda conn: orders.retire(conn, settings, NOW))
        await system.database.write(lambda conn: orders.retire(conn, target_of(settings), NOW))
        await mover_of(system).step()
        assert await _phase(system.database) is MovePhase.ENDED
        before = await switching(system).part(move.source_part)
        (collection,) = await system.database.read(lambda conn: collections.of_tenant(conn, TENANT))
        assert await before.count(collection) == 0
        copies = select(func.count()).select_from(tables.store_copies)
        assert await system.database.read(lambda conn: conn.execute(copies).scalar_one()) == 0
    # A process with the settings of before finds everything too, as long as SQL knows the place.
    for known in (settings, target_of(settings)):
        async with stages_by_hand(known) as stages:
            assert stages.system.store.part_id == move.target_part
            (await take_ledger(stages.system)).assert_exact()


async def test_a_process_with_the_settings_of_before_opens_the_store_of_now(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        await store_documents(stages, "a")
        move = await begin_move(stages.system)
        await mover_of(stages.system).step()
    async with stages_by_hand(settings) as stages:
        assert stages.system.store.part_id == move.target_part
        await store_documents(stages, "b")
        (await take_ledger(stages.system)).assert_exact()
