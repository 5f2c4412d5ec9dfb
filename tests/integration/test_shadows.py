"""Shadow runs: the old path answers, the fleet does the same, and a rule decides by what is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from embedfleet.api.opening import parts_of_owner
from embedfleet.bootstrap import open_synchronous_embedder
from embedfleet.client import AsyncClient
from embedfleet.client.shadow_vectors import ServedVectors
from embedfleet.clock import ManualClock, SystemClock
from embedfleet.errors import InvalidRequest, NotYetVisible, Permanent, UnknownShadow
from embedfleet.queue_schemas import ReceiptState
from embedfleet.records import audit, shadows
from embedfleet.records.scope import EveryTenant
from embedfleet.sql.database import Database
from embedfleet.traffic.fleet_path import FleetPath
from embedfleet.traffic.paths import IngestRequest, IngestResult, Path
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.shadow import MOST_EXAMPLES, Shadow
from embedfleet.traffic.shadow_administration import MOST_SECONDS, ShadowAdministration
from embedfleet.traffic.shadow_ending import shadow_step
from embedfleet.traffic.shadow_fleet import FleetInReach, StoredVectors, StoreVectors, copy_for
from embedfleet.traffic.shadow_schemas import DifferenceKind, ShadowFindings, ShadowInfo, ShadowRule, Verdict
from embedfleet.traffic.synchronous import SynchronousEmbedder
from support.api import serving_parts
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, Running, make_settings, paragraphs, running
from support.warm_chroma import ForkedChild

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = 86_400.0
SAME = "The same paragraph. " * 14 + "\n\n"
DOCUMENTS = [
    IngestRequest(TENANT, "short", "Pumps move water."),
    IngestRequest(TENANT, "long", paragraphs("river", 30), chunking_config=ONE_EACH),
    IngestRequest(TENANT, "repeated", SAME * 20, chunking_config=ONE_EACH),
    IngestRequest(TENANT, "titled", "# Pumps\n\nThey move.", content_type="markdown", title="A manual"),
    # The model reads plain letters in place of these, so ids are derived in another way.
    IngestRequest("bob", "read otherwise", ("ﬁrst 𝐛𝐨𝐥𝐝 words. " * 20 + "\n\n") * 2, chunking_config=ONE_EACH),
]


@dataclass(frozen=True, slots=True)
class Scene:
    """A fleet at work, the old path, and what compares them."""

    fleet: Running
    old: SynchronousEmbedder
    shadow: Shadow
    administration: ShadowAdministration

    @property
    def database(self) -> Database:
        return self.fleet.system.database

    async def begin(self, **rule: float) -> str:
        """Begin a run and return its id, as soon as the router has noticed it."""
        begun = await self.administration.begin(
            owner="Ada", rule=ShadowRule.model_validate({"requests": 1_000} | rule), expires_seconds=DAY
        )
        await noticed(self.shadow, begun.shadow_id)
        return begun.shadow_id

    async def shown(self, shadow_id: str, holds: Callable[[ShadowInfo], bool]) -> ShadowInfo:
        """Return the run as soon as the condition holds."""

        async def look() -> ShadowInfo | None:
            found = await self.administration.show(shadow_id)
            return found if holds(found) else None

        async with asyncio.timeout(HANG_SECONDS):
            return await self.database.until(look)

    async def compared(self, shadow_id: str, requests: int) -> ShadowInfo:
        return await self.shown(shadow_id, lambda info: info.findings.requests == requests)

    async def end(self, shadow_id: str) -> ShadowInfo:
        ended = await self.administration.end(shadow_id)
        await noticed(self.shadow, None)
        return ended


async def noticed(shadow: Shadow, shadow_id: str | None) -> None:
    """Return when the routing process knows that this run goes on, as it does within a second."""
    async with asyncio.timeout(HANG_SECONDS):
        while (None if shadow._run is None else shadow._run.shadow_id) != shadow_id:
            await shadow._exchange()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    # The fixtures of a function that make a start cheap come too late for a module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedfleet.vectors.chroma.process.start", ForkedChild)
        async with (
            running(make_settings(tmp_path_factory.mktemp("new"))) as fleet,
            open_synchronous_embedder(make_settings(tmp_path_factory.mktemp("old"))) as old,
            opened_shadow(fleet) as shadow,
        ):
            administration = ShadowAdministration(fleet.system.database, SystemClock(), actor="local")
            yield Scene(fleet, old, shadow, administration)


@asynccontextmanager
async def opened_shadow(
    fleet: Running,
    *,
    vectors: StoredVectors | None = None,
    wait_seconds: float = HANG_SECONDS,
    most_under_way: int = 16,
) -> AsyncIterator[Shadow]:
    system = fleet.system
    side = FleetInReach(
        fleet.jobs.of,
        vectors or StoreVectors(system.store),
        system.database,
        wait_seconds=wait_seconds,
    )
    async with Shadow(system.database, side, most_under_way=most_under_way) as shadow:
        yield shadow


async def test_equal_paths_pass_and_leave_nothing_behind(scene: Scene) -> None:
    shadow_id = await scene.begin(requests=len(DOCUMENTS), max_mismatch_rate=0, max_error_rate=0)
    answers = [await scene.old(request) for request in DOCUMENTS]
    for request, answer in zip(DOCUMENTS, answers, strict=True):
        scene.shadow.observe(request, answer, 0.1)

    # The leader ends it by itself.
    ended = await scene.shown(shadow_id, lambda info: info.verdict is not None)
    assert ended.verdict is Verdict.PASSED
    assert (ended.findings.requests, ended.findings.mismatched, ended.findings.errors) == (5, 0, 0)
    assert ended.findings.differences == {}
    chunks = sum(answer.chunks for answer in answers)
    assert ended.findings.ids_compared == ended.findings.vectors_compared == chunks > 50
    assert ended.old_p99_seconds == pytest.approx(0.1, rel=0.03)
    assert ended.new_p99_seconds is not None
    assert ended.reason is not None
    assert ended.reason.startswith("of 5 requests 0 failed in the fleet and 0 differ")

    await noticed(scene.shadow, None)
    await scene.fleet.settled()
    of_run = scene.fleet.jobs.of(ended.tenant)
    assert await of_run.list_documents() == []
    for collection in await of_run.list_collections():
        info = scene.fleet.system.catalogue.info(collection.model)
        assert await scene.fleet.system.store.count(_Key(ended.tenant, info.space, info.dim)) == 0
    # Nothing of it is among the documents of the tenant itself.
    assert await scene.fleet.jobs.of(TENANT).list_documents() == []


async def test_vectors_are_compared_through_the_api_too(scene: Scene) -> None:
    shadow_id = await scene.begin()
    serving = serving_parts(parts_of_owner(scene.fleet.system))
    async with (
        serving as (url, _),
        AsyncClient(url) as client,
        opened_shadow(scene.fleet, vectors=ServedVectors(client)) as shadow,
    ):
        right = await scene.old(DOCUMENTS[1])
        assert right.stored is not None
        shadow.observe(DOCUMENTS[1], right, 0.1)
        shadow.observe(DOCUMENTS[1], shifted(right, vector=right.stored[1].vector), 0.1)
        found = await scene.compared(shadow_id, 2)

    assert found.findings.differences == {"cosine": 1}
    await scene.end(shadow_id)


async def test_a_router_answers_by_the_old_path_and_has_the_fleet_compared(scene: Scene) -> None:
    shadow_id = await scene.begin()
    system = scene.fleet.system
    fleet = FleetPath(scene.fleet.jobs.of, wait_seconds=HANG_SECONDS)
    router = TrafficRouter(scene.old, fleet, database=system.database, shadow=scene.shadow)
    request = replace(DOCUMENTS[1], media_id="routed")
    async with router:
        assert (await router.ingest(request)).path is Path.SYNC
        await scene.compared(shadow_id, 1)
        with pytest.raises(InvalidRequest):
            await router.ingest(replace(request, content=" "))
        with pytest.raises(Permanent):
            await router.ingest(replace(request, content="\ue000"))
        found = await scene.shown(shadow_id, lambda info: info.findings.old_errors == 1)
        assert (found.findings.requests, found.findings.mismatched, found.findings.skipped) == (1, 0, 0)
        await router.remove(TENANT, "routed")
    # The document itself never was in the fleet.
    assert await scene.fleet.jobs.of(TENANT).list_jobs(media_id="routed") == []
    await scene.end(shadow_id)


async def test_what_a_killed_process_left_is_deleted_with_the_tenant_of_the_run(scene: Scene) -> None:
    shadow_id = await scene.begin()
    tenant = (await scene.administration.show(shadow_id)).tenant
    await scene.fleet.ingest("left", DOCUMENTS[1].content, user_id=tenant, user_tier=None)
    copy = copy_for(DOCUMENTS[0], tenant)
    assert copy.media_id != copy_for(DOCUMENTS[0], tenant).media_id
    await scene.end(shadow_id)
    collection = (await scene.fleet.jobs.of(tenant).list_collections())[0]
    key = _Key(tenant, collection.space, collection.dim)
    assert await scene.fleet.system.store.count(key) > 0

    await shadow_step(scene.database, ManualClock(SystemClock().now() + 3_600))
    (receipt,) = await scene.fleet.jobs.of(tenant).list_receipts()
    searched = scene.fleet.jobs.of(tenant).searched_receipt(receipt.receipt_id)
    assert (await asyncio.wait_for(searched, HANG_SECONDS)).state is ReceiptState.ERASED
    assert await scene.fleet.system.store.count(key) == 0
    assert (await scene.administration.show(shadow_id)).verdict is Verdict.UNDECIDED


@dataclass(frozen=True, slots=True)
class _Key:
    tenant: str
    space: str
    dim: int


def shifted(answer: IngestResult, **change: Any) -> IngestResult:
    assert answer.stored is not None
    first, *rest = answer.stored
    return replace(answer, stored=[replace(first, **change), *rest])


async def test_each_kind_of_difference_is_counted_and_kept_as_an_example(scene: Scene) -> None:
    request = IngestRequest(TENANT, "doctored", paragraphs("doctored", 2), chunking_config=ONE_EACH)
    right = await scene.old(request)
    assert right.stored is not None
    wrong = {
        DifferenceKind.CHUNK_COUNT: replace(right, chunks=3, stored=None),
        DifferenceKind.PLACES: shifted(right, start=1),
        DifferenceKind.CHUNK_IDS: shifted(right, chunk_id="f" * 32),
        DifferenceKind.COSINE: shifted(right, vector=right.stored[1].vector),
        DifferenceKind.DIMENSION: shifted(right, vector=right.stored[0].vector[:-1]),  # type: ignore[index]
    }
    shadow_id = await scene.begin()
    for answer in (right, *wrong.values()):
        scene.shadow.observe(request, answer, 0.1)

    found = await scene.compared(shadow_id, 6)
    assert found.findings.differences == {kind.value: 1 for kind in wrong}
    assert found.findings.mismatched == 5
    assert found.mismatch_rate == 5 / 6
    assert {one.kind for one in found.examples} == set(wrong)
    assert {(one.tenant, one.media_id) for one in found.examples} == {(TENANT, "doctored")}
    assert request.content not in found.model_dump_json()
    assert (await scene.end(shadow_id)).verdict is Verdict.UNDECIDED


async def test_a_fleet_that_fails_is_counted_and_its_copy_is_dropped(scene: Scene) -> None:
    shadow_id = await scene.begin(max_error_rate=1)
    async with opened_shadow(scene.fleet, wait_seconds=0.0) as hurried:
        hurried.observe(DOCUMENTS[1], await scene.old(DOCUMENTS[1]), 0.1)
        await scene.compared(shadow_id, 1)

    found = await scene.end(shadow_id)
    assert found.findings.errors == 1
    assert found.findings.mismatched == 0
    assert [(one.kind, one.details) for one in found.examples] == [
        (DifferenceKind.FAILED, {"error": NotYetVisible.__name__})
    ]
    await scene.fleet.settled()
    assert await scene.fleet.jobs.of(found.tenant).list_documents() == []


async def test_what_is_too_much_at_once_is_skipped_and_errors_of_the_old_path_are_counted(
    scene: Scene,
) -> None:
    answer = await scene.old(DOCUMENTS[0])
    shadow_id = await scene.begin()
    async with opened_shadow(scene.fleet, most_under_way=2) as narrow:
        for _ in range(5):
            narrow.observe(DOCUMENTS[0], answer, 0.1)
        narrow.observe(DOCUMENTS[0], ValueError("it broke"), 0.1)
        found = await scene.shown(shadow_id, lambda info: info.findings.requests == 2)

    assert found.findings.skipped == 3
    assert found.findings.old_errors == 1
    await scene.end(shadow_id)


async def test_a_process_that_stops_writes_what_it_found(scene: Scene) -> None:
    shadow_id = await scene.begin()
    async with opened_shadow(scene.fleet) as stopping:
        stopping.observe(DOCUMENTS[0], ValueError("it broke"), 0.1)
        stopping.observe(DOCUMENTS[0], IngestResult(1), 0.1)
        await asyncio.sleep(0)

    found = await scene.end(shadow_id)
    assert found.findings.old_errors == 1
    assert found.findings.skipped + found.findings.requests == 1
    await scene.fleet.settled()
    assert await scene.fleet.jobs.of(found.tenant).list_documents() == []


async def test_examples_of_one_kind_are_bounded(scene: Scene) -> None:
    answer = IngestResult(7)
    shadow_id = await scene.begin(max_mismatch_rate=1)
    for number in range(MOST_EXAMPLES + 3):
        scene.shadow.observe(replace(DOCUMENTS[0], media_id=f"many {number}"), answer, 0.1)
        while len(scene.shadow._under_way) >= 16:
            await asyncio.wait(scene.shadow._under_way, return_when=asyncio.FIRST_COMPLETED)

    found = await scene.compared(shadow_id, MOST_EXAMPLES + 3)
    assert found.findings.differences == {"chunk_count": MOST_EXAMPLES + 3}
    assert len(found.examples) == MOST_EXAMPLES
    await scene.end(shadow_id)


async def test_without_a_run_nothing_is_compared(scene: Scene) -> None:
    await noticed(scene.shadow, None)
    scene.shadow.observe(DOCUMENTS[0], IngestResult(1), 0.1)
    assert not scene.shadow._under_way


async def test_a_deleted_document_is_in_no_example(scene: Scene) -> None:
    gone, stays = (IngestRequest(TENANT, name, "Pumps move water.") for name in ("gone", "stays"))
    jobs = scene.fleet.jobs.of(TENANT)
    await scene.fleet.ingest("gone", gone.content)
    shadow_id = await scene.begin()
    for request in (gone, stays, replace(gone, tenant="bob")):
        scene.shadow.observe(request, IngestResult(7), 0.1)
    await scene.compared(shadow_id, 3)

    receipt_id = await jobs.delete_document(media_id="gone")
    assert receipt_id is not None
    receipt = await asyncio.wait_for(jobs.searched_receipt(receipt_id), HANG_SECONDS)
    assert receipt.state is ReceiptState.ERASED
    left = {(one.tenant, one.media_id) for one in (await scene.administration.show(shadow_id)).examples}
    assert left == {(TENANT, "stays"), ("bob", "gone")}

    await scene.shadow.forget("bob", "gone")
    left = {(one.tenant, one.media_id) for one in (await scene.administration.show(shadow_id)).examples}
    assert left == {(TENANT, "stays")}
    await scene.end(shadow_id)
    await jobs.delete_document(media_id="stays")


async def test_a_document_that_is_removed_while_it_is_compared_is_in_no_example(scene: Scene) -> None:
    shadow_id = await scene.begin()
    scene.shadow.observe(DOCUMENTS[1], IngestResult(7), 0.1)
    await scene.shadow.forget(TENANT, DOCUMENTS[1].media_id)

    found = await scene.shown(shadow_id, lambda info: info.findings.skipped == 1)
    assert found.examples == ()
    await scene.end(shadow_id)


# --- beginning and ending, with a clock that stands still ---


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Database, ManualClock, ShadowAdministration]]:
    database, clock = Database(url, synchronous="normal"), ManualClock()
    try:
        await database.open()
        yield database, clock, ShadowAdministration(database, clock, actor="local")
    finally:
        await database.close()


@pytest.mark.asyncio(loop_scope="function")
async def test_a_run_ends_by_itself_when_it_expires(database_url: str) -> None:
    async with opened(database_url) as (database, clock, administration):
        begun = await administration.begin(owner="Ada", rule=ShadowRule(requests=10), expires_seconds=60)
        clock.advance(59.9)
        await shadow_step(database, clock)
        assert (await administration.show(begun.shadow_id)).verdict is None
        clock.advance(0.1)
        await asyncio.gather(*(shadow_step(database, clock) for _ in range(3)))

        ended = await administration.show(begun.shadow_id)
        assert ended.verdict is Verdict.UNDECIDED
        assert ended.reason == "it has 0 requests, and the rule asks for 10"
        assert ended.ended_at == ended.expires_at
        assert not [one for one in await administration.list_shadows() if one.verdict is None]
        # Ended again, it keeps its verdict and its time.
        clock.advance(5)
        assert await administration.end(begun.shadow_id) == ended
        assert await _deeds(database) == ["traffic.shadow.begin", "traffic.shadow.end"]


@pytest.mark.asyncio(loop_scope="function")
async def test_one_run_goes_on_at_a_time(database_url: str) -> None:
    async with opened(database_url) as (_, clock, administration):
        rule = ShadowRule(requests=10)

        async def begin(owner: str) -> ShadowInfo:
            return await administration.begin(owner=owner, rule=rule, expires_seconds=60)

        answers = await asyncio.gather(
            *(begin(name) for name in ("Ada", "Bea", "Cem")), return_exceptions=True
        )
        begun = [one for one in answers if isinstance(one, ShadowInfo)]
        refused = [one for one in answers if isinstance(one, InvalidRequest)]
        assert (len(begun), len(refused)) == (1, 2)
        assert f"shadow `{begun[0].shadow_id}` of {begun[0].owner} runs until" in str(refused[0])
        await administration.end(begun[0].shadow_id)
        clock.advance(1)
        second = await begin("Dan")
        newest, oldest = await administration.list_shadows()
        assert (newest.shadow_id, oldest.shadow_id) == (second.shadow_id, begun[0].shadow_id)
        first_page = await administration.list_shadows(limit=1)
        assert await administration.list_shadows(limit=1, after=first_page.next_cursor) == [oldest]


@pytest.mark.asyncio(loop_scope="function")
async def test_processes_that_add_at_the_same_time_all_count(database_url: str) -> None:
    async with opened(database_url) as (database, _, administration):
        begun = await administration.begin(owner="Ada", rule=ShadowRule(requests=10), expires_seconds=60)

        async def add() -> None:
            await database.write(lambda conn: shadows.add_findings(conn, begun.shadow_id, _one_more))

        await asyncio.gather(*(add() for _ in range(20)))
        assert (await administration.show(begun.shadow_id)).findings.skipped == 20


@pytest.mark.asyncio(loop_scope="function")
async def test_what_a_run_left_is_deleted_after_a_while(database_url: str) -> None:
    async with opened(database_url) as (database, clock, administration):
        begun = await administration.begin(owner="Ada", rule=ShadowRule(requests=10), expires_seconds=60)
        await administration.end(begun.shadow_id)
        for seconds, erased in ((119.0, False), (1.0, True)):
            clock.advance(seconds)
            await shadow_step(database, clock)
            row = await database.read(lambda conn: shadows.get(conn, begun.shadow_id))
            assert row is not None
            assert (row.erased_at is not None) is erased


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("owner", "seconds", "message"),
    [
        ("  ", 60.0, "owner: must be"),
        ("x" * 201, 60.0, "owner: must be"),
        ("a\nb", 60.0, "owner: must be"),
        ("Ada", 0.0, "expires_seconds: must be"),
        ("Ada", MOST_SECONDS + 1, "expires_seconds: must be"),
        ("Ada", float("nan"), "expires_seconds: must be"),
    ],
)
async def test_a_run_without_owner_or_end_is_refused(
    database_url: str, owner: str, seconds: float, message: str
) -> None:
    async with opened(database_url) as (_, _, administration):
        with pytest.raises(InvalidRequest, match=message):
            await administration.begin(owner=owner, rule=ShadowRule(requests=1), expires_seconds=seconds)
        assert await administration.list_shadows() == []
        for call in (administration.show, administration.end):
            with pytest.raises(UnknownShadow, match="no shadow `shd_0`"):
                await call("shd_0")


def _one_more(written: str) -> str:
    return ShadowFindings.model_validate_json(written).plus(ShadowFindings(skipped=1)).model_dump_json()


async def _deeds(database: Database) -> list[str]:
    page = await database.read(lambda conn: audit.page(conn, EveryTenant(), limit=10, after=None))
    return [one.deed.action for one in reversed(page)]
