"""A system knows its parts: no orchestrator works with a broker or a store that is not its database's."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from embedfleet import joining
from embedfleet.bootstrap import open_guest, open_owner, open_parts, open_repair
from embedfleet.clock import SystemClock
from embedfleet.errors import BrokerUnavailable, ConfigError, Remedy
from embedfleet.joining import move
from embedfleet.leader.mark_keeping import MarkKeeping
from embedfleet.one_search import search_once
from embedfleet.records import fleet, systems
from embedfleet.records.scope import EveryTenant, OneTenant
from embedfleet.repair.backup import database_file, write_backup
from embedfleet.repair.restoring import restore_database
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.system_parts import PartKind, SystemRecord
from support.chroma_server import ChromaServer
from support.redis_server import RedisServer
from support.system import TENANT, make_settings, paragraphs, running

QUERY = SearchRequest(query="anything")


def owner(settings: Settings) -> AbstractAsyncContextManager[Any]:
    return open_owner(settings, purpose="test")


async def start_once(*several: Settings) -> None:
    """An orchestrator's process opens each system and closes it again."""
    for settings in several:
        async with owner(settings):
            pass


async def recorded(settings: Settings) -> SystemRecord | None:
    async with open_guest(settings) as guest:
        return await guest.database.read(systems.recorded)


@pytest.fixture
def fleet_settings(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer
) -> Settings:
    return make_settings(
        tmp_path / "one",
        database_url=postgres_url,
        redis={"url": redis_server.url, "key_prefix": "system"},
        vector_store={"url": chroma_server.url},
    )


class TestAFleet:
    async def test_a_half_configured_host_is_refused_and_both_sides_are_named(
        self, fleet_settings: Settings, tmp_path: Path, postgres_url: str
    ) -> None:
        await start_once(fleet_settings)
        half = make_settings(tmp_path / "two", database_url=postgres_url)
        with pytest.raises(ConfigError, match=r"in Redis at .*key prefix system.*`redis\.url`") as refused:
            await start_once(half)
        assert str(tmp_path / "two") in str(refused.value)

    async def test_a_host_with_a_store_of_its_own_is_refused_before_it_writes_a_vector(
        self, fleet_settings: Settings, tmp_path: Path, postgres_url: str, redis_server: RedisServer
    ) -> None:
        await start_once(fleet_settings)
        half = make_settings(
            tmp_path / "two",
            database_url=postgres_url,
            redis={"url": redis_server.url, "key_prefix": "system"},
            orchestrator={"launcher": "inline"},
        )
        with pytest.raises(ConfigError, match=r"vectors in Chroma at http.*`vector_store`"):
            await start_once(half)
        with pytest.raises(ConfigError, match=r"vectors in Chroma at http"):
            await search_once(half, "alice", SearchRequest(query="anything"))

    async def test_two_systems_share_neither_a_redis_prefix_nor_a_chroma(
        self, fleet_settings: Settings, tmp_path: Path, redis_server: RedisServer, chroma_server: ChromaServer
    ) -> None:
        await start_once(fleet_settings)
        on_redis = make_settings(
            tmp_path / "two",
            redis={"url": redis_server.url, "key_prefix": "system"},
            orchestrator={"launcher": "inline"},
        )
        with pytest.raises(ConfigError, match=r"queues in Redis.*another system.*`redis.key_prefix`"):
            await start_once(on_redis)
        on_chroma = make_settings(tmp_path / "three", vector_store={"url": chroma_server.url})
        openings: list[AbstractAsyncContextManager[Any]] = [
            owner(on_chroma),
            open_repair(on_chroma, purpose="verify", scope=EveryTenant(), filling=True),
            open_repair(on_chroma, purpose="rebuild", scope=EveryTenant(), empty=True),
        ]
        for opening in openings:
            with pytest.raises(ConfigError, match=r"vectors in Chroma.*another system"):
                async with opening:
                    pass

    async def test_an_emptied_redis_is_marked_again_by_the_leader_for_the_hosts_that_wait(
        self, fleet_settings: Settings, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(joining, "_LONGEST_WAIT_SECONDS", 0.0)
        monkeypatch.setattr(joining, "_LOOK_SECONDS", 0.0)
        async with owner(fleet_settings) as one:
            now = SystemClock().now()
            await one.database.write(
                lambda conn: fleet.announce(conn, "one", host="here", pid=1, now=now, pools={})
            )
            with redis_server.client() as client:
                client.flushall()
            with pytest.raises(BrokerUnavailable, match="has no mark"):
                await start_once(fleet_settings)
            await MarkKeeping(broker=one.broker, database=one.database).step()
            await start_once(fleet_settings)

    async def test_the_leader_notices_that_the_queues_are_another_systems_by_now(
        self, fleet_settings: Settings, redis_server: RedisServer
    ) -> None:
        async with owner(fleet_settings) as one:
            keeping = MarkKeeping(broker=one.broker, database=one.database)
            await keeping.step()
            with redis_server.client() as client:
                client.flushall()
            await one.broker.claim_mark("theirs")
            with pytest.raises(BrokerUnavailable, match="another system"):
                await keeping.step()

    async def test_a_redis_that_was_emptied_while_all_were_stopped_is_used_again(
        self, fleet_settings: Settings, redis_server: RedisServer
    ) -> None:
        await start_once(fleet_settings)
        with redis_server.client() as client:
            client.flushall()
        await start_once(fleet_settings, fleet_settings)

    async def test_queues_in_process_belong_to_one_data_directory(
        self, tmp_path: Path, postgres_url: str
    ) -> None:
        first, second = (make_settings(tmp_path / name, database_url=postgres_url) for name in "ab")
        await start_once(first, first)
        with pytest.raises(ConfigError, match="queues in a process with the data directory"):
            await start_once(second)

    async def test_a_move_on_purpose_takes_the_system_along_and_what_it_left_is_refused(
        self, fleet_settings: Settings, tmp_path: Path, postgres_url: str, redis_server: RedisServer
    ) -> None:
        await start_once(fleet_settings)
        before = await recorded(fleet_settings)
        moved = make_settings(
            tmp_path / "one",
            database_url=postgres_url,
            redis={"url": redis_server.url, "key_prefix": "moved"},
            vector_store={"url": fleet_settings.vector_store.url},
        )
        with pytest.raises(ConfigError, match="key prefix system"):
            await start_once(moved)
        async with open_parts(moved, purpose="test") as (database, parts):
            after, changed = await move(database, parts, SystemClock())
        assert changed == [PartKind.QUEUES]
        assert before is not None
        assert after.system_id == before.system_id, "one part stayed: it is the same system"
        await start_once(moved)
        with pytest.raises(ConfigError, match=r"queues in Redis.*key prefix system were replaced"):
            await start_once(fleet_settings)

    async def test_a_move_never_takes_a_part_of_another_system(
        self, fleet_settings: Settings, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        own = make_settings(tmp_path / "two")
        await start_once(fleet_settings, own)
        greedy = make_settings(
            tmp_path / "two",
            redis={"url": redis_server.url, "key_prefix": "system"},
            orchestrator={"launcher": "inline"},
        )
        async with open_parts(greedy, purpose="test") as (database, parts):
            with pytest.raises(ConfigError, match="another system"):
                await move(database, parts, SystemClock())

    async def test_a_backup_restored_in_place_takes_over_the_chroma_of_the_system_that_it_replaces(
        self, tmp_path: Path, chroma_server: ChromaServer
    ) -> None:
        settings = make_settings(tmp_path / "one", vector_store={"url": chroma_server.url})
        async with running(settings) as one:
            await one.ingest("a", paragraphs("a", 3))
        ended, backup = await recorded(settings), tmp_path / "backup.tar"
        assert ended is not None
        await asyncio.to_thread(write_backup, database_file(settings), backup, overwrite=False)
        await restore_database(settings, backup, replace=True)
        with pytest.raises(ConfigError, match=rf"another system \({ended.system_id}.*move this one"):
            await start_once(settings)
        async with open_parts(settings, purpose="test") as (database, parts):
            for other in (None, "s2"):
                with pytest.raises(ConfigError, match="another system"):
                    await move(database, parts, SystemClock(), ended_system=other)
            _, changed = await move(database, parts, SystemClock(), ended_system=ended.system_id)
        assert changed == [PartKind.VECTORS]
        async with open_repair(settings, purpose="rebuild", scope=EveryTenant(), empty=True):
            pass
        await start_once(settings)


class TestEmbedded:
    async def test_a_store_that_is_gone_is_refused_until_all_of_it_is_written_again(
        self, settings: Settings
    ) -> None:
        async with running(settings) as one:
            await one.ingest("a", paragraphs("a", 3))
        shutil.rmtree(settings.data_dir / "chroma")
        for opening in (start_once(settings), search_once(settings, TENANT, QUERY)):
            with pytest.raises(ConfigError, match=r"vectors in Chroma.*are gone") as refused:
                await opening
            assert refused.value.remedy is Remedy.REBUILD_VECTORS
        # To look, or to write one tenant's rows again, makes the store not whole.
        async with open_repair(settings, purpose="verify", scope=EveryTenant()) as system:
            (collection,) = system.collections
            assert (await system.verification.check(collection)).missing
        async with open_repair(settings, purpose="rebuild", scope=OneTenant(TENANT), empty=True):
            pass
        with pytest.raises(ConfigError, match="are gone"):
            await start_once(settings)
        async with open_repair(settings, purpose="rebuild", scope=EveryTenant(), empty=True):
            pass
        await start_once(settings)

    async def test_a_data_directory_may_be_moved(self, tmp_path: Path) -> None:
        before = make_settings(tmp_path / "before")
        async with running(before) as one:
            await one.ingest("a", paragraphs("a", 3))
        (tmp_path / "before").rename(tmp_path / "after")
        after = make_settings(tmp_path / "after")
        await start_once(after)
        assert await search_once(after, TENANT, QUERY)
        system = await recorded(after)
        assert system is not None
        assert str(after.data_dir) in system.parts[PartKind.VECTORS].place

    async def test_data_of_a_release_without_marks_is_adopted(self, settings: Settings) -> None:
        async with running(settings) as one:
            await one.ingest("a", paragraphs("a", 3))
            await one.system.database.write(systems.forget)
        (settings.data_dir / "chroma" / "embedfleet-system.json").unlink()
        assert await search_once(settings, TENANT, QUERY), "a search changes nothing"
        assert await recorded(settings) is None
        await start_once(settings, settings)
        assert await recorded(settings) is not None

    async def test_a_restored_copy_is_another_system(self, settings: Settings, tmp_path: Path) -> None:
        await start_once(settings)
        source, backup = database_file(settings), tmp_path / "backup.tar"
        await asyncio.to_thread(write_backup, source, backup, overwrite=False)
        copy = make_settings(tmp_path / "copy")
        await restore_database(copy, backup, replace=False)
        await start_once(copy)
        original, restored = await recorded(settings), await recorded(copy)
        assert original is not None
        assert restored is not None
        assert original.system_id != restored.system_id
