"""A fleet keeps a view on a server that its reader uses too, and loses its leader in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedfleet.bootstrap import GuestSystem
from embedfleet.records import views
from support.chroma_server import ChromaServer
from support.fleet import QUICK_LEASES, Fleet, ended
from support.hangs import eventually
from support.redis_server import RedisServer
from support.system import ONE_EACH, paragraphs, until
from support.view_readers import TldwReader, open_server_client

USER = "7"


async def publish(guest: GuestSystem, version: str, chunks: int, documents: int = 12) -> None:
    await ended(
        guest,
        [
            await guest.jobs.create_job(
                media_id=str(n),
                user_id=USER,
                user_tier="premium",
                content=paragraphs(f"{version}{n}", chunks),
                chunking_config=ONE_EACH,
            )
            for n in range(documents)
        ],
    )


async def in_step(guest: GuestSystem) -> None:
    async def all_taken_in() -> bool:
        marked = await guest.database.read(views.marked)
        lag = (await guest.database.read(views.lags))["rag"]
        return not marked and lag == views.Lag(0, None, filled=True)

    await until(all_taken_in, guest.database)


@pytest.mark.slow
async def test_a_view_on_a_server_is_right_although_its_leader_is_killed(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer
) -> None:
    with ChromaServer(tmp_path / "reader") as reader_server:
        view = {"name": "rag", "layout": "tldw", "url": reader_server.url}
        fleet = Fleet(
            tmp_path,
            {
                "data_dir": str(tmp_path / "unused"),
                "redis": {"url": redis_server.url, "key_prefix": "views"},
                "database": {"url": postgres_url},
                "vector_store": {"url": chroma_server.url, "views": [view]},
                "models": {"default": "stub"},
                "worker_pools": QUICK_LEASES,
                "orchestrator": {"heartbeat_seconds": 0.5, "leader_lease_seconds": 2},
            },
        )
        with open_server_client(reader_server.url) as client, fleet.orchestrator() as a:
            reader = TldwReader(client, USER)
            eventually(lambda: a.metric("embedding_leader") == 1, what="the first leads")
            with fleet.orchestrator():
                async with fleet.guest() as guest:
                    await publish(guest, "first", 9)
                    a.process.kill()
                    await publish(guest, "second", 3)
                    await guest.jobs.of(USER).delete_document(media_id="0")
                    await in_step(guest)
                    rows = reader.rows()
                    assert rows.keys() == {f"media_{n}_chunk_{i}" for n in range(1, 12) for i in range(3)}
                    assert all(row.text.startswith("second") for row in rows.values())
                    found = reader.search(rows["media_4_chunk_1"].vector, k=1)
                    assert found[0].content == rows["media_4_chunk_1"].text  # no client was opened again
        verified = fleet.command("verify", "--json")
        assert verified.returncode == 0, verified.stderr
        [seen] = json.loads(verified.stdout)["views"]
        assert (seen["rows"], seen["missing"], seen["extra"], seen["wrong"]) == (33, [], [], [])
