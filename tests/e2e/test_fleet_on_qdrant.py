"""A fleet whose vectors are in Qdrant: Redis, PostgreSQL, Qdrant's engine, and processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.fleet import QUICK_LEASES, Fleet
from support.hangs import eventually
from support.qdrant_server import QdrantServer
from support.redis_server import RedisServer


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str, qdrant_server: QdrantServer) -> Fleet:
    return Fleet(
        tmp_path,
        {
            "data_dir": str(tmp_path / "unused"),
            "redis": {"url": redis_server.url, "key_prefix": tmp_path.name.replace("_", "-")},
            "database": {"url": postgres_url},
            "vector_store": {"kind": "qdrant", "url": qdrant_server.url},
            "models": {"default": "stub"},
            "worker_pools": QUICK_LEASES,
        },
    )


@pytest.mark.slow
async def test_a_folder_goes_in_is_found_verified_lost_rebuilt_and_deleted(
    fleet: Fleet, corpus: Path, qdrant_server: QdrantServer
) -> None:
    me = ("--tenant", "me")
    with fleet.orchestrator() as one:
        ingested = fleet.command("ingest", str(corpus), *me)
        assert ingested.returncode == 0, ingested.stderr
        found = fleet.command("search", "cat", "--json", *me)
        assert len(json.loads(found.stdout)["hits"]) == 2, found.stderr
        eventually(lambda: fleet.command("doctor").returncode == 0, what="a clean bill of health")
        gone = fleet.command("documents", "delete", str(corpus / "cats.md"), *me)
        assert gone.returncode == 0, gone.stderr
        async with fleet.guest() as guest:
            (await fleet.ledger(guest)).assert_exact()
        assert one.stop() == 0
    sound = fleet.command("verify")
    assert sound.returncode == 0, sound.stdout + sound.stderr
    qdrant_server.lose_rows()
    lost = fleet.command("verify")
    assert lost.returncode != 0
    rebuilt = fleet.command("rebuild", "--yes")
    assert rebuilt.returncode == 0, rebuilt.stderr
    again = fleet.command("verify")
    assert again.returncode == 0, again.stdout + again.stderr
