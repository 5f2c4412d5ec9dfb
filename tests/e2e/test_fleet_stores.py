"""The vectors of a fleet move from Chroma's server into PostgreSQL, while its processes work and die."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from embedfleet.records import store_moves
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving import orders
from support.chroma_server import ChromaServer
from support.fleet import Fleet, assert_all_completed, ended, fleet_on, more_stored, submit
from support.redis_server import RedisServer
from support.system import until


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer) -> Fleet:
    return fleet_on(tmp_path, redis_server.url, postgres_url, chroma_server.url)


@pytest.mark.slow
async def test_a_fleet_moves_its_vectors_though_its_leader_is_killed(fleet: Fleet) -> None:
    moved = replace(fleet, config={**fleet.config, "vector_store": {"kind": "pgvector"}})
    async with fleet.guest() as guest:
        with fleet.orchestrator() as leader:
            first = await submit(fleet, guest, "first", 6, 20)
            await more_stored(guest, first, than=20)
            ordered = fleet.command("stores", "move", "--to", "pgvector", "--yes")
            assert ordered.returncode == 0, ordered.stderr
            await more_stored(guest, first, than=40)
            leader.stop(signal.SIGKILL)
        with fleet.orchestrator() as one:
            second = await submit(fleet, guest, "second", 6, 20)

            async def is_switched() -> bool:
                stands = await guest.database.read(orders.status)
                assert stands is not None
                return stands.switched and stands.move.phase is MovePhase.KEEPING

            await until(is_switched, guest.database)
            third = await submit(fleet, guest, "third", 2, 20)
            assert_all_completed(await ended(guest, [*first, *second, *third]), 20)

            async def in_step() -> bool:
                return not await guest.database.read(store_moves.differs)

            await until(in_step, guest.database)
            (await moved.ledger(guest)).assert_exact()
            (await fleet.ledger(guest)).assert_exact()
            # The settings of this host are those of before; it follows SQL.
            found = fleet.command("search", "third0 paragraph", "--tenant", f"third-{fleet.folder.name}")
            assert "third" in found.stdout, found.stderr
            retired = moved.command("stores", "retire", "--yes", config=moved.write_config())
            assert retired.returncode == 0, retired.stderr

            async def has_ended() -> bool:
                return await guest.database.read(store_moves.running) is None

            await until(has_ended, guest.database)
            assert one.stop() == 0
    sound = moved.command("verify")
    assert sound.returncode == 0, sound.stdout + sound.stderr
