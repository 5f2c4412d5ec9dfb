"""What is deleted or changed while the vectors move leaves, or changes in, both stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import delete, select

from embedfleet.errors import StoreMoved, Transient
from embedfleet.leader.beyond_reach import Outside, notes
from embedfleet.records import chunks, store_moves
from embedfleet.repair.rebuilding import _set_checksums
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Verification
from embedfleet.settings import Settings
from embedfleet.sql import document_lock, tables
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving import orders
from embedfleet.vectors.port import CollectionKey
from support.databases import on_both_databases
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


@on_both_databases
async def test_what_is_deleted_before_its_note_is_not_copied(in_lance: Settings) -> None:
    """I5: its receipt may have found nothing left."""
    async with stages_by_hand(in_lance) as stages:
        database = stages.system.database
        await store_documents(stages, "a", "b")
        page = await database.read(lambda conn: store_moves.to_copy(conn, "", 10))
        gone = bytes.fromhex(page[0].chunk_id)
        await database.write(
            lambda conn: conn.execute(delete(tables.vectors).where(tables.vectors.c.chunk_id == gone))
        )
        assert await database.write(lambda conn: store_moves.note(conn, page)) == {page[1].chunk_id}


async def test_deleted_rows_leave_the_other_store_though_a_damaged_one_cannot_be_copied(
    in_lance: Settings, tmp_path: Path
) -> None:
    async with moving(in_lance, tmp_path / "target", "a", "b") as (stages, move):
        system, database = stages.system, stages.system.database
        await mover_to(system).step()
        ids = [value.hex() for value in await database.read(_chunk_ids)]
        collection = await the_collection(system)
        await system.store.follow()
        await system.store.delete(collection, ids[1:])
        await database.write(lambda conn: store_moves.forget_copies(conn, ids[1:]))
        gone = bytes.fromhex(ids[0])
        await database.write(
            lambda conn: conn.execute(delete(tables.vectors).where(tables.vectors.c.chunk_id == gone))
        )
        with pytest.raises(Transient, match="missing or damaged"):
            await mover_to(system).step()
        previous = await switching(system).part(move.source_part)
        assert (await previous.vectors(collection, ids))[0] == ids[1:]
        assert set(await database.read(_copied)) == {bytes.fromhex(ids[1])}


def _chunk_ids(conn: Any) -> list[bytes]:
    return list(conn.execute(select(tables.vectors.c.chunk_id).order_by("chunk_id")).scalars())


def _copied(conn: Any) -> list[bytes]:
    return list(conn.execute(select(tables.store_copies.c.chunk_id)).scalars())


async def test_metadata_that_change_and_are_written_between_two_looks_are_copied_again(
    in_lance: Settings, tmp_path: Path
) -> None:
    async with stages_by_hand(in_lance) as stages:
        database = stages.system.database
        await store_documents(stages, "a")
        (row,) = await database.read(lambda conn: store_moves.to_copy(conn, "", 10))
        await database.write(lambda conn: store_moves.note(conn, [row]))

        def patched(conn: Any) -> None:
            document_lock.lock(conn, [row.document_id])
            chunks.leave_undescribed(conn, [row.document_id], [row.described_by])
            chunks.record_description(conn, row.document_id, row.described_by, [row.chunk_id])

        await database.write(patched)
        copied = [store_moves.Copied(row, b"12345678", b"12345678")]
        await database.write(lambda conn: store_moves.record_copied(conn, copied))
        assert await database.read(store_moves.differs)


async def test_what_was_read_from_the_previous_store_is_not_compared_with_nor_recorded_of_the_new_one(
    in_lance: Settings, tmp_path: Path
) -> None:
    async with stages_by_hand(in_lance) as stages:
        system, database = stages.system, stages.system.database
        await store_documents(stages, "a")
        collection = await the_collection(system)
        verification = Verification(database, system.store, cast("TrueVectors", None))
        ids = [value.hex() for value in await database.read(_chunk_ids)]
        before = await database.read(lambda conn: chunks.stored_vectors(conn, ids))
        move = await begin(system, at(in_lance, tmp_path / "target"))
        await mover_to(system).step()
        with pytest.raises(StoreMoved):
            await verification.check(collection)
        sums = {ids[0]: b"12345678"}
        with pytest.raises(StoreMoved):
            await database.write(lambda conn: _set_checksums(conn, before, sums, part_id=move.source_part))


async def test_a_receipt_names_a_store_that_was_left_with_rows(in_lance: Settings, tmp_path: Path) -> None:
    async with moving(in_lance, tmp_path / "target", "a") as (stages, move):
        system, database = stages.system, stages.system.database
        await mover_to(system).step()
        target = at(in_lance, tmp_path / "target")
        await database.write(lambda conn: orders.retire(conn, target, NOW, leave=True))
        await mover_to(system, away=True).step()
        ((place, ended_at),) = await database.read(store_moves.left)
        assert place == move.places[move.source_part]
        outside = Outside(backups_kept_days=None, has_webhook=False)
        said = notes(outside, [], [place], finished_at=ended_at, whole_tenant=False)
        assert str(tmp_path / "source") in said["stores_left"]


async def test_rows_deleted_while_closed_are_forgotten_by_the_new_store_before_their_receipt(
    in_lance: Settings, tmp_path: Path
) -> None:
    """LanceDB keeps them in its files until it writes those again: too long for a closed store."""
    async with moving(in_lance, tmp_path / "target", "a", "b") as (stages, _):
        system, database = stages.system, stages.system.database
        one = mover_to(system)
        forgotten: list[str | None] = []
        forget = system.store.forget_deleted

        async def noted(*collections: CollectionKey) -> None:
            assert await database.read(store_moves.any_copies)
            forgotten.append(system.store.part_id)
            await forget(*collections)

        system.store.forget_deleted = noted  # type: ignore[method-assign]

        async def count_remaining() -> float:
            gone = (await database.read(_chunk_ids))[0]
            await database.write(
                lambda conn: conn.execute(delete(tables.vectors).where(tables.vectors.c.chunk_id == gone))
            )
            return 0.0

        one._count_remaining = count_remaining  # type: ignore[method-assign]
        await one.step()
        move = await the_move(database)
        assert move.phase is MovePhase.KEEPING
        assert forgotten == [move.target_part]
