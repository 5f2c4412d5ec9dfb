"""tldw's own path and the fleet behind one router: a user moves as a whole, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import InvalidRequest, Permanent
from embedfleet.tldw.media_database import MediaDatabases
from embedfleet.tldw.media_path import MediaPath, request_of
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.fleet_path import FleetPath
from embedfleet.traffic.paths import IngestRequest, IngestResult
from embedfleet.traffic.router import TrafficRouter
from support.hangs import HANG_SECONDS
from support.system import make_settings, running
from support.tldw import StandIn, SynchronousPath

_TAKES_EFFECT_SECONDS = 1.0  # more than a change takes to hold


async def test_a_user_who_is_allowed_goes_to_the_fleet_and_the_others_stay(tmp_path: Path) -> None:
    tldw, old = StandIn(tmp_path / "users"), SynchronousPath()
    for user in ("1", "2"):
        tldw.of(user).add(7, f"Words of user {user}. " * 10)
    load = MediaDatabases(tldw.base_dir)
    path = MediaPath(old.generate_embeddings_for_media, embedding_model="stub")
    async with running(make_settings(tmp_path)) as system:
        database = system.system.database
        clock = ManualClock()
        traffic = TrafficAdministration(database, clock, actor="test")
        await traffic.set(allow_tenants={"1"})
        clock.advance(_TAKES_EFFECT_SECONDS)
        fleet = FleetPath(system.jobs.of, wait_seconds=HANG_SECONDS)
        async with TrafficRouter(path, fleet, database=database, clock=clock) as router:
            went = {user: await router.ingest(request_of(user, 7, load(user, 7))) for user in ("1", "2")}
            await traffic.rollback()
            clock.advance(_TAKES_EFFECT_SECONDS)
        document = await system.jobs.of("1").get_document(media_id=7)
        # A router that starts reads the state that holds.
        async with TrafficRouter(path, fleet, database=database, clock=clock) as router:
            back = await router.ingest(request_of("1", 7, load("1", 7)))
    assert {user: str(result.path) for user, result in went.items()} == {"1": "async", "2": "sync"}
    assert all(result.visible and result.chunks for result in went.values())
    assert document.metadata["title"] == "Title 7"
    assert str(back.path) == "sync"
    assert old.calls == [("2", 7), ("1", 7)]


async def test_what_tldw_refuses_is_an_error_of_the_request() -> None:
    old = SynchronousPath(refused=frozenset({7}))
    path = MediaPath(old.generate_embeddings_for_media, embedding_model="m", chunk_size=10, chunk_overlap=0)
    request = IngestRequest(tenant="1", media_id="8", content="one two " * 10)
    assert await path(request) == IngestResult(chunks=2)
    with pytest.raises(Permanent, match="media 7 of user `1`: the model is away"):
        await path(IngestRequest(tenant="1", media_id="7", content="x"))
    with pytest.raises(InvalidRequest, match="item-7"):
        await path(IngestRequest(tenant="1", media_id="item-7", content="x"))
