"""A move of the vectors has one mover at a time, which leaves nothing closed and nothing stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.records import store_moves
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving import copying, mover, orders
from embedfleet.store_moving.places import current_part
from embedfleet.store_moving.target import claim_target
from embedfleet.vectors import store_room
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import CollectionKey, StoreDebt, VectorRows, VectorStore
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.stages_by_hand import stages_by_hand
from support.store_moves import (
    NOW,
    at,
    begin,
    mover_to,
    moving,
    store_documents,
    switching,
    the_collection,
    the_move,
)
from support.system import take_ledger


class BehindOnce(PassingStore):
    """Its debt is above any limit at the first look, and paid at the next."""

    def __init__(self, inner: VectorStore) -> None:
        super().__init__(inner)
        self.looks = 0
        self.written_at: list[int] = []

    async def debt(self) -> StoreDebt:
        self.looks += 1
        return StoreDebt(surplus_files=10**9 if self.looks == 1 else 0)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await super().upsert(collection, rows)
        self.written_at.append(self.looks)


class Gated(PassingStore):
    """The other store, whose calls of one name wait for a gate. Writes are counted."""

    def __init__(self, store: VectorStore, name: str) -> None:
        super().__init__(store)
        self._name = name
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.upserts = 0

    async def _wait(self, name: str) -> None:
        if name == self._name:
            self.reached.set()
            await self.gate.wait()

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self.upserts += 1
        await super().upsert(collection, rows)
        await self._wait("upsert")

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        await self._wait("scan")
        async for one in self._store.scan(collection, page=page):
            yield one


async def enter(database: Database, phase: MovePhase) -> None:
    move = await the_move(database)
    await database.write(lambda conn: store_moves.enter(conn, move, phase, NOW))


# --- one mover at a time ---


@on_both_databases
async def test_a_second_mover_does_nothing_while_the_first_lives(in_lance: Settings, tmp_path: Path) -> None:
    async with moving(in_lance, tmp_path / "target", "a", "b") as (stages, move):
        system = stages.system
        gated = Gated(await switching(system).part(move.target_part), "scan")
        first = asyncio.create_task(mover_to(system, {move.target_part: gated}).step())
        await gated.reached.wait()
        await mover_to(system).step()
        assert (await the_move(system.database)).phase is MovePhase.VERIFYING
        gated.gate.set()
        await first
        assert (await the_move(system.database)).phase is MovePhase.KEEPING
        (await take_ledger(system)).assert_exact()


async def test_a_mover_that_lost_its_lock_deletes_nothing_of_what_came_since(
    in_lance: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two movers: the first one waits in its reading, and the second one takes the move to its switch."""
    async with moving(in_lance, tmp_path / "target", "a", "b") as (stages, move):
        system = stages.system
        gated = Gated(await switching(system).part(move.target_part), "scan")
        monkeypatch.setattr(mover, "_LOCK", "one")
        first = asyncio.create_task(mover_to(system, {move.target_part: gated}).step())
        await gated.reached.wait()
        monkeypatch.setattr(mover, "_LOCK", "another")
        await mover_to(system).step()
        await store_documents(stages, "c")
        gated.gate.set()
        await first
        (await take_ledger(system)).assert_exact()


async def test_an_abort_is_obeyed_before_the_next_page(
    in_lance: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "ROWS_PER_PAGE", 1)
    async with moving(in_lance, tmp_path / "target", "a", "b", "c") as (stages, move):
        system = stages.system
        gated = Gated(await switching(system).part(move.target_part), "upsert")
        step = asyncio.create_task(mover_to(system, {move.target_part: gated}).step())
        await gated.reached.wait()
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        gated.gate.set()
        await step
        assert gated.upserts == 1
        assert (await the_move(system.database)).phase is MovePhase.ENDED
        assert await gated.count(await the_collection(system)) == 0


async def test_a_cancelled_step_ends_with_its_page_and_keeps_the_lock_until_then(
    in_lance: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "_PAGE_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(copying, "ROWS_PER_PAGE", 1)
    async with moving(in_lance, tmp_path / "target", "a", "b") as (stages, move):
        system = stages.system
        gated = Gated(await switching(system).part(move.target_part), "upsert")
        step = asyncio.create_task(mover_to(system, {move.target_part: gated}).step())
        await gated.reached.wait()
        step.cancel()
        await mover_to(system).step()
        assert not step.done(), "a call of the store is still under way"
        assert (await the_move(system.database)).phase is MovePhase.COPYING
        gated.gate.set()
        await asyncio.wait([step])
        assert step.cancelled()
        assert gated.upserts == 1


# --- nothing stays closed, nothing is stuck ---


async def test_a_store_that_a_dead_mover_left_closed_is_opened_without_the_other_store(
    in_lance: Settings, tmp_path: Path
) -> None:
    async with moving(in_lance, tmp_path / "target", "a") as (stages, move):
        system = stages.system
        other = await switching(system).part(move.target_part)
        await claim_target(system.database, other, move.target_part)
        await enter(system.database, MovePhase.CLOSING)
        with pytest.raises(VectorStoreUnavailable):
            await mover_to(system, away=True).step()
        part = await system.database.read(current_part)
        assert part is not None
        assert not part.closed
        await store_documents(stages, "b")
        await mover_to(system).step()
        assert (await the_move(system.database)).switched_at is not None


async def test_a_store_that_a_stopped_mover_left_closed_is_opened_though_it_has_the_lock(
    in_lance: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moving(in_lance, tmp_path / "target", "a") as (stages, _):
        system = stages.system
        await enter(system.database, MovePhase.CLOSING)
        async with system.database.sole(mover._LOCK) as held:
            assert held is not None
            second = mover_to(system)
            await second.step()
            assert (await the_move(system.database)).phase is MovePhase.CLOSING
            monkeypatch.setattr(mover, "_LONGEST_CLOSED_SECONDS", -1.0)
            await second.step()
        assert (await the_move(system.database)).phase is MovePhase.VERIFYING


class Slow(Gated):
    """Its first write in a closed store takes longer, by the clock `now`, than a store may be closed."""

    def __init__(self, store: VectorStore, database: Database) -> None:
        super().__init__(store, "")
        self._database = database
        self._passed = 0.0
        self.phases: list[MovePhase] = []

    def now(self) -> float:
        return self._passed

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        phase = (await the_move(self._database)).phase
        if phase is MovePhase.CLOSING:
            self._passed += 1000
        self.phases.append(phase)
        await super().upsert(collection, rows)


async def test_a_store_that_is_closed_too_long_is_opened_and_the_rows_are_copied_in_the_open(
    in_lance: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "ROWS_PER_PAGE", 1)
    async with moving(in_lance, tmp_path / "target", "a") as (stages, move):
        system = stages.system
        slow = Slow(await switching(system).part(move.target_part), system.database)
        monkeypatch.setattr(mover, "monotonic", slow.now)
        one = mover_to(system, {move.target_part: slow})
        late = ["b", "c", "d"]

        async def count_remaining() -> float:
            # Comes before the store is closed, and after the rows of before were copied.
            if slow.phases and late:
                names, late[:] = list(late), []
                await store_documents(stages, *names)
            return 0.0

        monkeypatch.setattr(one, "_count_remaining", count_remaining)
        await one.step()
        assert slow.phases.count(MovePhase.CLOSING) == 1
        assert slow.phases.count(MovePhase.VERIFYING) == 2
        assert (await the_move(system.database)).phase is MovePhase.KEEPING
        (await take_ledger(system)).assert_exact()


async def test_a_move_to_a_store_that_does_not_answer_can_be_ended(
    in_lance: Settings, tmp_path: Path
) -> None:
    async with stages_by_hand(in_lance) as stages:
        system = stages.system
        await store_documents(stages, "a", "b")

        # Nothing was copied: there is nothing to delete there.
        await begin(system, at(in_lance, tmp_path / "first"))
        with pytest.raises(VectorStoreUnavailable):
            await mover_to(system, away=True).step()
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        await mover_to(system, away=True).step()
        assert (await the_move(system.database)).phase is MovePhase.ENDED

        # Rows were copied: they are left there only by order.
        await begin(system, at(in_lance, tmp_path / "second"))
        await mover_to(system).step()
        await system.database.write(lambda conn: orders.go_back(conn, NOW))
        await mover_to(system).step()
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        with pytest.raises(VectorStoreUnavailable):
            await mover_to(system, away=True).step()
        await system.database.write(lambda conn: orders.abort(conn, NOW, leave=True))
        await mover_to(system, away=True).step()
        ended = await the_move(system.database)
        assert ended.phase is MovePhase.ENDED
        assert ended.findings["left"] == 2
        assert not await system.database.read(store_moves.any_copies)


async def test_the_way_back_can_be_called_off(in_lance: Settings, tmp_path: Path) -> None:
    async with moving(in_lance, tmp_path / "target", "a") as (stages, move):
        system = stages.system
        await mover_to(system).step()
        await system.database.write(lambda conn: orders.go_back(conn, NOW))
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        await mover_to(system).step()
        assert (await the_move(system.database)).phase is MovePhase.KEEPING
        part = await system.database.read(current_part)
        assert part is not None
        assert part.part_id == move.target_part


async def test_a_path_is_recorded_so_that_each_process_finds_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert orders.target_of(settings, "lancedb", None, "x/../y").vector_store.path == str(tmp_path / "y")
    assert orders.target_of(settings, "lancedb", None, "s3://b/x").vector_store.path == "s3://b/x"


# --- upkeep ---


async def test_copying_waits_while_the_other_store_is_behind_with_its_upkeep(
    in_lance: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise storage would stop at the switch, until all that was put off is done."""
    monkeypatch.setattr(copying, "ROWS_PER_PAGE", 1)
    for module in (copying, store_room):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    async with moving(in_lance, tmp_path / "target", "a", "b") as (stages, move):
        system = stages.system
        other = BehindOnce(await switching(system).part(move.target_part))
        await mover_to(system, {move.target_part: other}).step()
        assert other.written_at == [0, 2]
