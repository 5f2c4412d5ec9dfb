"""A move of the vectors touches no store but its own two, and each process finds the right one."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from embedfleet import joining
from embedfleet.bootstrap.adapters import open_current_store
from embedfleet.errors import ConfigError
from embedfleet.leader.leftover_search import Found
from embedfleet.settings import Settings
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving import orders
from embedfleet.store_moving.places import current_part
from embedfleet.system_parts import PartKind
from embedfleet.vectors.port import VectorRows
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


def elsewhere(settings: Settings, name: str) -> Settings:
    """The settings of another system, which has everything in directories of its own."""
    there = settings.model_copy(update={"data_dir": settings.data_dir / name})
    return at(there, settings.data_dir / name / "vectors")


async def test_the_store_of_another_system_is_neither_written_nor_emptied(in_lance: Settings) -> None:
    theirs = elsewhere(in_lance, "theirs")
    async with stages_by_hand(theirs) as stages:
        await store_documents(stages, "a", "b")
    async with stages_by_hand(in_lance) as stages:
        system = stages.system
        await store_documents(stages, "a", "b")
        target = at(in_lance, theirs.data_dir / "vectors")
        with pytest.raises(ConfigError, match="another system"):
            await orders.examine(system.database, in_lance, target)
        await begin(system, target)
        with pytest.raises(ConfigError, match="another system"):
            await mover_to(system).step()
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        await mover_to(system).step()
        assert (await the_move(system.database)).phase is MovePhase.ENDED
    async with stages_by_hand(theirs) as stages:
        (await take_ledger(stages.system)).assert_exact()


async def test_the_systems_own_store_is_known_by_another_name(in_lance: Settings, tmp_path: Path) -> None:
    async with stages_by_hand(in_lance) as stages:
        system = stages.system
        await store_documents(stages, "a")
        (tmp_path / "alias").symlink_to(tmp_path / "source")
        target = at(in_lance, tmp_path / "alias")
        with pytest.raises(ConfigError, match="by another name"):
            await orders.examine(system.database, in_lance, target)
        await begin(system, target)
        before = await system.store.mark()
        with pytest.raises(ConfigError, match="by another name"):
            await mover_to(system).step()
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        await mover_to(system).step()
        assert await system.store.mark() == before
        (await take_ledger(system)).assert_exact()


async def test_a_target_without_a_mark_and_with_rows_is_left_alone(in_lance: Settings) -> None:
    async with moving(in_lance, in_lance.data_dir / "filled", "a") as (stages, move):
        system = stages.system
        other = await switching(system).part(move.target_part)
        collection = await the_collection(system)
        await other.ensure_collection(collection)
        row = np.ones((1, collection.dim), dtype=np.float32)
        await other.upsert(collection, VectorRows(["00" * 16], row, [{"media_id": "x"}], None))
        with pytest.raises(ConfigError, match="no mark and 1 rows"):
            await mover_to(system).step()
        await system.database.write(lambda conn: orders.abort(conn, NOW))
        await mover_to(system).step()
        assert await other.count(collection) == 1


async def test_a_worker_with_settings_of_before_uses_the_new_store_and_none_without_its_mark(
    in_lance: Settings, tmp_path: Path
) -> None:
    async with stages_by_hand(in_lance) as stages:
        system = stages.system
        await store_documents(stages, "a")
        target = at(in_lance, tmp_path / "target")
        move = await begin(system, target)
        await mover_to(system).step()
        await system.database.write(lambda conn: orders.retire(conn, target, NOW))
        await mover_to(system).step()
        await system.store.close()
        shutil.rmtree(tmp_path / "source")

        worker = await open_current_store(in_lance, system.database)
        assert worker.part_id == move.target_part
        await worker.close()
        shutil.rmtree(tmp_path / "target")
        with pytest.raises(ConfigError, match="does not carry the mark"):
            await open_current_store(target, system.database)


async def test_an_order_with_settings_that_name_another_store_is_refused(
    in_lance: Settings, tmp_path: Path
) -> None:
    """Every process that starts during the move would be sent there."""
    async with stages_by_hand(in_lance) as stages:
        mistaken = at(in_lance, tmp_path / "no such mount")
        with pytest.raises(ConfigError, match="with the settings of its orchestrators"):
            await orders.examine(stages.system.database, mistaken, at(in_lance, tmp_path / "target"))


async def test_a_process_that_joins_during_the_switch_does_not_undo_it(
    in_lance: Settings, tmp_path: Path
) -> None:
    """It records by which name it has opened the store that was the system's a moment ago."""
    async with moving(in_lance, tmp_path / "target", "a") as (stages, move):
        system = stages.system
        await mover_to(system).step()
        renamed = partial(joining._rename, kind=PartKind.VECTORS, part_id=move.source_part, place="alias")
        await system.database.write(renamed)
        part = await system.database.read(current_part)
        assert part is not None
        assert part.part_id == move.target_part
        assert part.place != "alias"


@pytest.mark.slow
async def test_vectors_move_back_to_a_place_of_before_within_one_process(settings: Settings) -> None:
    """Embedded Chroma cannot be opened twice, and its mark is that of an earlier move."""
    async with stages_by_hand(settings) as stages:
        system, database = stages.system, stages.system.database
        await store_documents(stages, "a")
        target = orders.target_of(settings, "lancedb", None, None)
        await begin(system, target)
        await mover_to(system).step()
        await database.write(lambda conn: orders.retire(conn, target, NOW))
        await mover_to(system).step()
        await database.write(lambda conn: orders.begin(conn, target, settings, NOW))
        await mover_to(system).step()
        await database.write(lambda conn: orders.retire(conn, settings, NOW))
        await mover_to(system).step()
        assert (await the_move(database)).phase is MovePhase.ENDED
        await store_documents(stages, "b")
        (await take_ledger(system)).assert_exact()


def test_a_receipt_waits_quietly_for_what_only_the_other_store_has() -> None:
    assert Found({"store_copies": 2, "vector_store": 0}, {}).waits_for_move
    assert not Found({"store_copies": 2, "vector_store": 1}, {}).waits_for_move
    assert not Found({"store_copies": 0, "queues": 1}, {}).waits_for_move
