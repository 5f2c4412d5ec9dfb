"""A lock of the whole database that one process holds as long as it lives."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import text

from embedfleet.errors import DatabaseUnavailable
from embedfleet.settings import Settings
from embedfleet.sql.sole import FileLock
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.stages_by_hand import stages_by_hand


@on_both_databases
async def test_one_holder_at_a_time_has_a_lock_of_a_name(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        database = stages.system.database
        async with database.sole("move") as first, database.sole("other") as another:
            assert first is not None
            assert another is not None
            async with database.sole("move") as second:
                assert second is None
            await first.require()
        async with database.sole("move") as third:
            assert third is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_lock_that_was_lost_with_its_connection_is_noticed(
    settings: Settings, database_url: str
) -> None:
    async with stages_by_hand(settings) as stages:
        database = stages.system.database
        async with database.sole("move") as first:
            assert first is not None
            ended = text("SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory'")
            await database.write(lambda conn: conn.execute(ended).all())
            with pytest.raises(DatabaseUnavailable, match="held a lock"):
                await first.require()
            async with database.sole("move") as second:
                assert second is not None


async def test_a_lock_is_not_released_before_the_attempt_to_take_it_has_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = threading.Event(), threading.Event()
    order: list[str] = []

    def take(_: FileLock) -> bool:
        asked.set()
        assert go.wait(HANG_SECONDS)
        order.append("taken")
        return True

    async with stages_by_hand(settings) as stages:
        monkeypatch.setattr(FileLock, "take", take)
        monkeypatch.setattr(FileLock, "release", lambda _: order.append("released"))

        async def hold() -> None:
            async with stages.system.database.sole("move"):
                pytest.fail("the caller was cancelled before")

        holder = asyncio.create_task(hold())
        assert await asyncio.to_thread(asked.wait, HANG_SECONDS)
        holder.cancel()
        ended, _ = await asyncio.wait([holder], timeout=0.2)  # without the wait for the attempt, it ends now
        go.set()
        await asyncio.wait([holder])
        assert holder.cancelled()
        assert not ended
    assert order == ["taken", "released"]
