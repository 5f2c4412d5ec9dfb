"""The clients against a running system: its answers are the records that a caller in its process gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from embedfleet.client import AsyncClient, Client
from embedfleet.client.calls.results import StoredChunk
from embedfleet.document_filter import DocumentFilter
from embedfleet.errors import (
    EmptyDocument,
    InvalidRequest,
    UnknownDeadLetter,
    UnknownDocument,
    UnknownJob,
    UnknownKey,
)
from embedfleet.progress import JobNow
from embedfleet.queue_schemas import ChunkingConfig, JobEvent, JobStatus, ReceiptState, Stage, UserTier
from embedfleet.searching.search import SearchRequest
from embedfleet.tracking.tenant_jobs import TenantJobs
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")
TEXT = "Pumps move water. Valves stop it."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("client"))) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Served) -> AsyncIterator[AsyncClient]:
    """A client of the tenant `alice`."""
    async with AsyncClient(served.url, tenant="alice") as one:
        yield one


@pytest.fixture
def jobs(served: Served) -> TenantJobs:
    """The same jobs, in the process of the system."""
    return served.running.jobs.of("alice")


async def blocking(served: Served, use: Callable[[Client], T]) -> T:
    """Use a blocking client as its users do: beside no event loop."""

    def run() -> T:
        with Client(served.url, tenant="alice") as client:
            return use(client)

    return await asyncio.to_thread(run)


async def submit(client: AsyncClient, media_id: str, **more: Any) -> str:
    job_id = await client.create_job(media_id=media_id, content=f"{TEXT} {media_id}", **more)
    await client.wait(job_id, timeout_seconds=HANG_SECONDS)
    return job_id


async def test_a_blocking_client_submits_waits_and_reads(served: Served, jobs: TenantJobs) -> None:
    def use(client: Client) -> Any:
        job_id = client.create_job(
            media_id=7, content=TEXT, title="Water", chunking_config=ChunkingConfig(chunk_size=50, overlap=0)
        )
        return client.wait(job_id, timeout_seconds=HANG_SECONDS)

    job = await blocking(served, use)
    assert job.status is JobStatus.COMPLETED
    assert job == await jobs.status(job.job_id)


async def test_records_are_those_of_the_system(client: AsyncClient, jobs: TenantJobs) -> None:
    job_ids = [await submit(client, f"record/{number}") for number in range(3)]
    since = datetime.now(UTC) - timedelta(hours=1)

    assert await client.list_jobs(limit=2) == (page := await jobs.list_jobs(limit=2))
    assert await client.list_jobs(limit=2, after=page.next_cursor) == await jobs.list_jobs(
        limit=2, after=page.next_cursor
    )
    assert {info.job_id for info in await client.statuses([*job_ids, "none"])} == set(job_ids)
    assert list((await client.wait_many(job_ids)).items()) == list((await jobs.wait_many(job_ids)).items())
    assert await client.find_job_id(job_ids[0]) == job_ids[0]
    assert await client.totals(since=since) == await jobs.totals(since=since)
    assert await client.models_of(["record/0", "none"]) == {"record/0": "stub"}


async def test_a_list_longer_than_a_page_of_the_server_is_whole(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await submit(client, f"pages/{number}")
    monkeypatch.setattr("embedfleet.client.calls.listing.SERVER_ROWS", 2)

    found = await client.list_jobs(limit=3)

    assert len({info.job_id for info in found}) == 3


async def test_an_unchanged_source_is_recognised(client: AsyncClient) -> None:
    job_id = await submit(client, "source", source_hash="abc")

    found = await client.find_jobs([("source", "abc"), ("source", "abd"), ("none", "abc")])

    assert [None if one is None else one.job_id for one in found] == [job_id, None, None]


async def test_metadata_is_replaced(client: AsyncClient, jobs: TenantJobs) -> None:
    await submit(client, "described")

    assert await client.replace_metadata({"described": {"team": "sales"}, "none": {}}) == {"described"}
    assert (await jobs.get_document(media_id="described")).metadata == {"team": "sales"}


async def test_what_cannot_be_done_is_the_error_of_the_system(client: AsyncClient, jobs: TenantJobs) -> None:
    job_id = await submit(client, "ended")

    assert await client.cancel(job_id) is False
    assert (await client.retry_many([job_id])).refused == (await jobs.retry_many([job_id])).refused
    with pytest.raises(InvalidRequest) as refused:
        await client.retry(job_id)
    assert refused.value.reason == (await jobs.retry_many([job_id])).refused[0].reason
    for call in (client.status, client.cancel, client.wait, client.find_job_id):
        with pytest.raises(UnknownJob, match="no job `none`"):
            await call("none")
    with pytest.raises(InvalidRequest) as wrong:
        await client.create_job(media_id="wrong", content=" ")
    assert wrong.value.field == "content"


async def test_dead_letters_are_listed_requeued_and_purged(client: AsyncClient, jobs: TenantJobs) -> None:
    for number in range(2):
        await jobs.record_unreadable(media_id=f"broken/{number}", reason="it is broken")
    newest, oldest = await client.list_dead_letters(stage=Stage.CHUNKING)

    assert [newest, oldest] == await jobs.list_dead_letters()
    assert await client.list_dead_letters(job_id=oldest.job_id) == [oldest]
    assert await client.get_dead_letter(oldest.dead_letter_id) == oldest
    assert await client.purge_dead_letters(before=oldest.created_at - timedelta(days=1)) == 0
    assert await client.purge_dead_letters([oldest.dead_letter_id]) == 1
    assert await client.list_dead_letters() == [newest]
    assert len(await client.list_dead_letters(ended=True)) == 2
    with pytest.raises(InvalidRequest) as here:
        await jobs.requeue_dead_letters(job_id=newest.job_id)
    with pytest.raises(InvalidRequest) as there:
        await client.requeue_dead_letters(job_id=newest.job_id)
    assert str(there.value) == str(here.value)
    with pytest.raises(InvalidRequest, match="name exactly one of"):
        await client.purge_dead_letters()
    with pytest.raises(UnknownDeadLetter):
        await client.of("bob").get_dead_letter(newest.dead_letter_id)
    with pytest.raises(UnknownDeadLetter):
        await client.of("bob").purge_dead_letters([newest.dead_letter_id])


async def test_an_operator_sees_and_sizes_pools(served: Served, client: AsyncClient) -> None:
    [here] = (await client.orchestrators()).orchestrators
    assert here.pools.keys() == {"chunking", "embedding", "storage", "deletion"}
    # Not the target of the report: it is 0 until the pools have started.
    [told] = await client.scale("embedding", 1, host=here.host)
    assert told.orchestrator_id == here.orchestrator_id
    with pytest.raises(InvalidRequest, match="no pool `embeding`: did you mean `embedding`"):
        await client.scale("embeding", 1)
    with pytest.raises(InvalidRequest, match="no running orchestrator to tell"):
        await client.scale("embedding", 1, host="elsewhere")


async def test_keys_tenants_and_usage_are_administered(client: AsyncClient) -> None:
    erin = client.of("erin")
    await submit(erin, "counted")
    made = await client.set_tenant("erin", tier=UserTier.PREMIUM, limits={"daily_tokens": 1_000_000})
    assert (made.tier, made.own_limits) == (UserTier.PREMIUM, {"daily_tokens": 1_000_000})
    assert await erin.tenant() == made
    assert made in await client.list_tenants()
    [line] = await erin.usage()
    assert (line.tenant_id, line.model, line.jobs) == ("erin", "stub", 1)
    assert await erin.usage(first_day=date(2020, 1, 1), last_day=date(2020, 1, 2)) == []
    assert [entry.action for entry in await erin.audit_log()] == ["tenant.set"]
    assert await erin.list_keys() == []
    with pytest.raises(UnknownKey):
        await erin.revoke_key("ef_none")


async def test_a_file_is_sent_whole_and_read_by_the_server(
    served: Served, client: AsyncClient, jobs: TenantJobs, tmp_path: Path
) -> None:
    file = tmp_path / "pumps.md"
    file.write_text(f"# Pumps\n\n{TEXT}\n")
    made = await client.create_job_from_file(file, media_id="uploaded", metadata={"team": "water"})
    job = await client.wait(made, timeout_seconds=HANG_SECONDS)
    assert (job.status, job.source) == (JobStatus.COMPLETED, str(file))
    again = await blocking(
        served,
        lambda blocked: blocked.create_job_from_file(
            file.read_bytes(), media_id="uploaded", name=str(file), metadata={"team": "water"}
        ),
    )
    assert (await client.wait(again, timeout_seconds=HANG_SECONDS)).generation == job.generation
    assert (await client.get_document(media_id="uploaded")).metadata == {"team": "water"}
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(EmptyDocument):
        await client.create_job_from_file(tmp_path / "empty.txt", media_id="empty")
    with pytest.raises(FileNotFoundError):
        await client.create_job_from_file(tmp_path / "none.txt", media_id="none")
    with pytest.raises(InvalidRequest, match="name: is missing"):
        await client.create_job_from_file(b"text", media_id="unnamed")


async def test_many_texts_are_submitted_each_for_itself(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfleet.client.calls.uploads._BULK_LINES", 2)
    documents = [{"media_id": f"many/{number}", "content": f"{TEXT} {number}"} for number in range(3)]
    first, wrong, third = await client.create_each(
        [documents[0], {"media_id": "x", "content": ""}, documents[2]]
    )

    assert isinstance(wrong, InvalidRequest)
    assert wrong.field == "content"
    ended = await client.wait_many([str(first), str(third)], timeout_seconds=HANG_SECONDS)
    assert [job.media_id for job in ended.values()] == ["many/0", "many/2"]


async def test_a_document_is_read_changed_and_deleted(client: AsyncClient, jobs: TenantJobs) -> None:
    await submit(client, "of /one?..", metadata={"year": 2024})
    name = "of /one?.."
    text = await client.read_text(media_id=name)
    assert text == await jobs.read_text(media_id=name)
    assert text.text == f"{TEXT} {name}"
    [chunk] = await client.list_chunks(media_id=name, with_text=True)
    assert chunk == (await jobs.list_chunks(media_id=name, with_text=True)).chunks[0]
    assert await client.set_metadata(media_id=name, patch={"team": "a", "year": None}) == {"team": "a"}
    matching = DocumentFilter(where={"team": "a"}, media_ids=[name])
    assert [one.media_id async for one in client.all_documents(matching=matching)] == [name]
    receipt_id = await client.delete_document(media_id=name)
    assert receipt_id is not None
    receipt = await client.searched_receipt(receipt_id)
    assert receipt.state is ReceiptState.ERASED
    assert receipt in await client.list_receipts()
    assert await client.delete_document(media_id=name) is None
    with pytest.raises(UnknownDocument):
        await client.get_document(media_id=name)


async def test_documents_are_deleted_by_filter(client: AsyncClient) -> None:
    await submit(client, "filtered", metadata={"team": "gone"})

    assert list(await client.delete_documents(matching=DocumentFilter(where={"team": "gone"}))) == [
        "filtered"
    ]
    with pytest.raises(InvalidRequest, match="leaves no document out"):
        await client.delete_documents(matching=DocumentFilter())


async def test_a_search_finds_what_was_just_submitted(served: Served, client: AsyncClient) -> None:
    grace = client.of("grace")
    job_id = await grace.create_job(media_id="fresh", content="Taps drip.", metadata={"team": "a"})
    hits = await grace.search("taps", after=job_id, timeout_seconds=60)
    assert [hit.media_id for hit in hits] == ["fresh"]
    assert list(hits.missing) == []
    request = SearchRequest(query="taps", where={"team": "b"})
    assert await grace.search(request) == []
    here = await served.running.jobs.of("grace").search(SearchRequest(query="taps"))
    assert (await grace.search("taps")).json_document() == here.json_document()
    with pytest.raises(InvalidRequest) as wrong:
        await grace.search(" ")
    assert wrong.value.field == "query"
    with pytest.raises(InvalidRequest, match="after: is not a position"):
        await grace.search("taps", after="never")


async def test_events_come_as_they_happen_and_are_resumed_where_they_were(
    client: AsyncClient, jobs: TenantJobs
) -> None:
    heidi = client.of("heidi")
    first = await submit(heidi, "event/1")
    followed = heidi.follow_events()
    event = await anext(followed)
    assert event.job_id == first
    second = await heidi.create_job(media_id="event/2", content=f"{TEXT} later")
    assert (await anext(followed)).job_id == second
    await followed.aclose()  # type: ignore[attr-defined]
    resumed = heidi.follow_events(after=event.position)
    assert (await anext(resumed)).job_id == second
    await resumed.aclose()  # type: ignore[attr-defined]
    assert [one.job_id for one in await heidi.events(limit=5)] == [first, second]
    assert await heidi.events(after=event.position, limit=1) == await heidi.events(after=event.position)


async def test_a_job_is_followed_to_its_end_with_its_results(served: Served, client: AsyncClient) -> None:
    job_id = await client.create_job(media_id="followed", content=f"{TEXT} followed")
    told = [one async for one in client.follow_job(job_id)]
    assert isinstance(told[-1], JobEvent)
    assert all(isinstance(one, JobNow) for one in told[:-1])
    chunks = await blocking(served, lambda blocked: list(blocked.results(job_id, vectors=True)))
    [chunk] = chunks
    assert isinstance(chunk, StoredChunk)
    assert chunk.info.text == f"{TEXT} followed"
    assert chunk.vector is not None
    assert float(chunk.vector @ chunk.vector) == pytest.approx(1.0)
    explained = await client.explain_job(job_id)
    assert explained == await client.explain_document(media_id="followed")
    assert explained.searchable
    with pytest.raises(UnknownJob):
        [one async for one in client.follow_job("none")]


async def test_what_texts_and_files_would_cost_is_told(
    client: AsyncClient, jobs: TenantJobs, tmp_path: Path
) -> None:
    [one], total = await client.estimate([{"media_id": "cost", "content": TEXT}])
    assert (one.media_id, total.documents) == ("cost", 1)
    file = tmp_path / "cost.txt"
    file.write_text(TEXT)
    estimate = await client.estimate_upload(file, media_id="cost")
    assert estimate.tokens == one.tokens
    assert await client.sum_of_estimates([estimate, estimate]) == await jobs.sum_of_estimates(
        [estimate, estimate]
    )
    assert await client.list_documents(matching=DocumentFilter(media_ids=["cost"])) == []


async def test_models_and_collections_are_listed(client: AsyncClient, jobs: TenantJobs) -> None:
    await submit(client, "collected")
    assert "stub" in {model.name for model in await client.catalogue()}
    assert await client.list_collections() == await jobs.list_collections()


async def test_a_tenant_sees_nothing_of_another(served: Served, client: AsyncClient) -> None:
    job_id = await submit(client, "mine")
    bob = client.of("bob")

    assert await bob.list_jobs() == []
    assert await bob.statuses([job_id]) == []
    assert await bob.models_of(["mine"]) == {}
    for call in (bob.status, bob.cancel, bob.retry, bob.find_job_id):
        with pytest.raises(UnknownJob, match="no job"):
            await call(job_id)
    with pytest.raises(UnknownJob):
        await bob.retry_many([job_id])
    assert job_id in {info.job_id for info in await bob.of_all_tenants().list_jobs()}


async def test_the_defaults_of_the_server_are_told(served: Served, client: AsyncClient) -> None:
    defaults = await client.defaults()

    assert defaults.model == "stub"
    assert "stub" in defaults.models
    settings = served.parts.settings.chunking
    assert defaults.chunking == settings.config
    said = {"chunk_size": 300, "context": False}
    assert (await client.defaults(said)).chunking == settings.changed(said)
    with pytest.raises(InvalidRequest) as here:
        settings.changed({"overlap": 5000})
    with pytest.raises(InvalidRequest) as there:
        await client.defaults({"overlap": 5000})
    assert vars(there.value) == vars(here.value)
