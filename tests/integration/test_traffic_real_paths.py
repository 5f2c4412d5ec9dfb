"""The router between the real paths: the synchronous embedder with its own store, and a fleet at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.bootstrap import open_synchronous_embedder
from embedfleet.clock import SystemClock
from embedfleet.records import removals
from embedfleet.records.audit import LOCAL
from embedfleet.searching.search import SearchRequest
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.fleet_path import FleetPath
from embedfleet.traffic.paths import IngestRequest, IngestResult, Path
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.synchronous import SynchronousEmbedder
from support.hangs import HANG_SECONDS
from support.system import Running, make_settings, running
from support.warm_chroma import ForkedChild

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Scene:
    """`answering` waits until readers of the fleet see a document; `accepting` only submits it."""

    fleet: Running
    embedder: SynchronousEmbedder
    answering: TrafficRouter
    accepting: TrafficRouter
    administration: TrafficAdministration

    async def ingest(self, router: TrafficRouter, request: IngestRequest, path: Path) -> IngestResult:
        """Send the request until it goes that way."""

        async def look() -> IngestResult | None:
            result = await router.ingest(request)
            return result if result.path is path else None

        async with asyncio.timeout(HANG_SECONDS):
            return await self.fleet.system.database.until(look, every_seconds=0.05)

    async def shown(self, request: IngestRequest) -> tuple[bool, list[str]]:
        """Whether the store of the old path has the document, and what a search of the fleet finds of it."""
        hits = await self.fleet.system.search.search(request.tenant, SearchRequest(query=request.content))
        texts = [hit.text for hit in hits if hit.media_id == request.media_id]
        return await self.embedder.shows(request.tenant, request.media_id), texts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    # The fixtures of a function that make a start cheap come too late for a module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedfleet.vectors.chroma.process.start", ForkedChild)
        old, new = (make_settings(tmp_path_factory.mktemp(name)) for name in ("old", "new"))
        async with open_synchronous_embedder(old) as embedder, running(new) as fleet:
            database, of = fleet.system.database, fleet.jobs.of
            waiting, submitting = FleetPath(of, wait_seconds=HANG_SECONDS), FleetPath(of, wait_seconds=0)
            async with (
                TrafficRouter(embedder, waiting, database=database) as answering,
                TrafficRouter(embedder, submitting, database=database) as accepting,
            ):
                administration = TrafficAdministration(database, SystemClock(), actor=LOCAL)
                yield Scene(fleet, embedder, answering, accepting, administration)


async def test_a_document_moves_with_its_tenant_and_back_and_is_seen_on_one_path(scene: Scene) -> None:
    request = IngestRequest("alice", "moves", "Pumps move water.")
    await scene.ingest(scene.answering, request, Path.SYNC)
    assert await scene.shown(request) == (True, [])

    await scene.administration.set(allow_tenants={"alice"})
    result = await scene.ingest(scene.answering, request, Path.ASYNC)
    assert (result.visible, result.chunks) == (True, 1)
    assert await scene.shown(request) == (False, ["Pumps move water."])

    await scene.administration.rollback()
    await scene.ingest(scene.answering, request, Path.SYNC)
    assert await scene.shown(request) == (True, [])


async def test_what_the_fleet_only_accepted_leaves_the_old_path_when_readers_see_it(scene: Scene) -> None:
    request = IngestRequest("bob", "slow", "Valves stop water.")
    await scene.ingest(scene.accepting, request, Path.SYNC)
    await scene.administration.set(allow_tenants={"bob"})
    await scene.ingest(scene.accepting, request, Path.ASYNC)

    async def settled() -> bool | None:
        return not await scene.fleet.system.database.read(removals.numbers) or None

    async with asyncio.timeout(HANG_SECONDS):
        await scene.fleet.system.database.until(settled)
    assert await scene.shown(request) == (False, ["Valves stop water."])


async def test_what_the_fleet_refuses_goes_the_old_way_and_its_older_version_goes(scene: Scene) -> None:
    request = IngestRequest("carol", "refused", "Seats seal valves.")
    await scene.administration.set(allow_tenants={"carol"})
    await scene.ingest(scene.answering, request, Path.ASYNC)
    operators = OperatorAdministration(
        scene.fleet.system.database, SystemClock(), scene.fleet.system.settings, actor=LOCAL
    )
    await operators.set_tenant("carol", limits={"max_document_chars": 1})
    result = await scene.answering.ingest(replace(request, content="New seats."))
    assert result.path is Path.SYNC
    assert await scene.shown(request) == (True, [])


async def test_a_removal_takes_the_document_from_both(scene: Scene) -> None:
    request = IngestRequest("dora", "goes", "Pipes carry water.")
    await scene.administration.set(allow_tenants={"dora"})
    await scene.ingest(scene.answering, request, Path.ASYNC)
    await scene.answering.remove("dora", "goes")
    assert await scene.shown(request) == (False, [])
