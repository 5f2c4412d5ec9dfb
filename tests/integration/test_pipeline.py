"""The main job, end to end in one process: submitted documents become searchable, exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, func, select

from embedfleet.bootstrap import open_guest
from embedfleet.errors import InvalidRequest, QuotaExceeded, Remedy, UnknownJob, UnknownModel
from embedfleet.queue_schemas import (
    ChunkingConfig,
    JobStatus,
    ModelDocuments,
    SearchHit,
    SearchHits,
    UserTier,
)
from embedfleet.records import collections, searches
from embedfleet.records.collections import Collection
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import (
    ONE_EACH,
    TENANT,
    Configure,
    paragraphs,
    read_chroma,
    running,
    take_ledger,
    until,
)


@on_both_databases
async def test_a_submitted_document_is_completed_and_found(settings: Settings) -> None:
    async with running(settings) as fleet:
        info = await fleet.ingest(
            "1", "# Title\n\nFair queues share.\n", content_type="markdown", source="/docs/a.md"
        )
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="Fair queues share."))
        (await take_ledger(fleet.system)).assert_exact()
    assert info.status is JobStatus.COMPLETED
    assert info.coverage == 1.0
    assert info.progress.chunks_stored == info.progress.chunks_total == 1
    assert [(hit.source, hit.media_id, hit.heading) for hit in hits] == [("/docs/a.md", "1", "Title")]
    assert "Fair queues share." in hits[0].text


async def test_hits_carry_the_exact_text_of_their_offsets(settings: Settings) -> None:
    content = paragraphs("véloç", 300)
    async with running(settings) as fleet:
        await fleet.ingest("1", content, chunking_config=ONE_EACH)
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="véloç word7", limit=300))
    assert len(hits) == 300
    assert all(hit.text == content[hit.start : hit.end] for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@on_both_databases
async def test_a_job_submitted_by_a_process_with_only_sql_is_picked_up(settings: Settings) -> None:
    async with running(settings), open_guest(settings) as guest:
        job_id = await guest.jobs.create_job(media_id=7, user_id=TENANT, content="From elsewhere.")
        info = await guest.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        hits = await guest.search.search(TENANT, SearchRequest(query="From elsewhere."))
    assert info.status is JobStatus.COMPLETED
    assert [hit.media_id for hit in hits] == ["7"]


async def test_a_job_submitted_while_nothing_runs_waits_for_the_next_start(settings: Settings) -> None:
    async with open_guest(settings) as guest:
        job_id = await guest.jobs.create_job(media_id=7, user_id=TENANT, content="Patient.")
        assert (await guest.jobs.get_job_status(job_id)).status is JobStatus.PENDING
    async with running(settings) as fleet:
        assert (await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED


async def test_a_search_says_what_it_does_not_search_and_a_guest_hears_it_too(configure: Configure) -> None:
    other = {"other": {"backend": "stub", "query_prefix": "another space: "}}
    settings = configure(models={"default": "stub", "catalogue": other})
    async with running(settings) as fleet, open_guest(settings) as guest:

        async def asked(model: str | None = None, *, tenant: str = TENANT) -> SearchHits:
            request = SearchRequest(query="words", model=model)
            own, heard = [await one.search(tenant, request) for one in (fleet.system.search, guest.search)]
            assert own.json_document() == heard.json_document()
            return heard

        await fleet.ingest("1", "Words of one model.", model="other")
        only = await asked()
        assert (len(only), only.model, only.not_searched, only.notice) == (1, "other", (), None)
        none = await asked("stub")
        assert none == []
        assert none.notice == f"tenant `{TENANT}` has no documents of model `stub`, but 1 of `other`"
        await fleet.ingest("2", "Words of two models.")
        mixed = await asked()
        assert ({hit.media_id: hit.model for hit in mixed}) == {"1": "other", "2": "stub"}
        assert (mixed.models, mixed.model, mixed.not_searched) == (("other", "stub"), None, ())
        assert mixed.notice is None
        named = await asked("stub")
        assert ([hit.media_id for hit in named], named.model) == (["2"], "stub")
        assert named.not_searched == (ModelDocuments(model="other", documents=1),)
        assert named.remedy is Remedy.CHOOSE_MODEL
        assert "has no documents: look at the tenant's name" in str((await asked(tenant="eve")).notice)
        with pytest.raises(UnknownModel, match="did you mean `other`"):
            await fleet.system.search.search(TENANT, SearchRequest(query="words", model="othre"))
        await fleet.system.store.drop_collection(await fleet.system.database.read(the_collection_of("stub")))
        assert (await asked("stub")).remedy is Remedy.EXAMINE


def the_collection_of(model: str) -> Callable[[Connection], Collection]:
    return lambda conn: next(one for one in collections.of_tenant(conn, TENANT) if one.model == model)


async def test_an_error_of_the_owner_reaches_the_guest_that_asked(settings: Settings) -> None:
    async with running(settings) as fleet, open_guest(settings) as guest:
        await fleet.ingest("1", "Something.")
        with pytest.raises(InvalidRequest, match="shorten it"):
            await guest.search.search(TENANT, SearchRequest(query="word " * 3000))


async def test_what_helps_against_an_error_of_the_owner_reaches_the_guest_too(configure: Configure) -> None:
    there = {"one": {"backend": "stub"}}
    async with running(configure(models={"default": "stub", "catalogue": there})) as fleet:
        await fleet.ingest("1", "Something.", model="one")
    gone = {"one": {"backend": "onnx", "hub": "example/not-on-this-machine"}}
    settings = configure(models={"default": "stub", "catalogue": gone})
    async with running(settings), open_guest(settings) as guest:
        with pytest.raises(InvalidRequest, match="is not on this machine: download it") as refused:
            await guest.search.search(TENANT, SearchRequest(query="word"))
    assert refused.value.remedy is Remedy.DOWNLOAD_MODEL


async def test_a_question_that_cannot_be_read_is_answered_with_an_error(settings: Settings) -> None:
    async with running(settings) as fleet:
        database = fleet.system.database
        now = 4_000_000_000.0
        await database.write(lambda conn: searches.ask(conn, "odd", TENANT, '{"qwery": 1}', now=now))

        async def answered() -> bool:
            return await database.read(lambda conn: searches.response(conn, "odd")) is not None

        await until(answered, database)
        response = await database.read(lambda conn: searches.response(conn, "odd"))
        assert response is not None
        assert "qwery" in response
        assert (await fleet.ingest("1", "Still at work.")).status is JobStatus.COMPLETED


async def test_searches_whose_asker_died_are_forgotten_at_the_next_start(settings: Settings) -> None:
    async with open_guest(settings) as guest:
        await guest.database.write(lambda conn: searches.ask(conn, "old", TENANT, "{}", now=0.0))
    async with running(settings) as fleet:
        await fleet.ingest("1", "Something.")
        assert await fleet.system.database.read(lambda conn: searches.unanswered(conn, 10)) == []
        left = await fleet.system.database.read(
            lambda conn: conn.execute(select(func.count()).select_from(tables.searches)).scalar_one()
        )
    assert left == 0


# --- versions ---


@on_both_databases
async def test_an_unchanged_document_embeds_nothing(settings: Settings) -> None:
    async with running(settings) as fleet:
        content = paragraphs("same", 20)
        await fleet.ingest("1", content, chunking_config=ONE_EACH)
        before = fleet.embedded()
        again = await fleet.ingest("1", content, chunking_config=ONE_EACH)
        assert fleet.embedded() == before == 20
        (await take_ledger(fleet.system)).assert_exact()
    assert again.status is JobStatus.COMPLETED
    assert again.reason == "unchanged"
    assert again.generation == 1
    assert again.progress.chunks_reused == 20


@on_both_databases
async def test_a_changed_document_embeds_only_its_new_chunks_and_drops_the_stale(settings: Settings) -> None:
    old = paragraphs("text", 20)
    new = paragraphs("intro", 1) + "\n\n" + old.replace("word7", "fresh7")
    async with running(settings) as fleet:
        await fleet.ingest("1", old, chunking_config=ONE_EACH)
        before = fleet.embedded()
        info = await fleet.ingest("1", new, chunking_config=ONE_EACH)
        assert fleet.embedded() - before == 2
        ledger = await take_ledger(fleet.system)
        ledger.assert_exact()
    assert info.generation == 2
    assert info.progress.chunks_reused == 19
    assert len(ledger.held) == 21
    rows = read_chroma(settings)
    # Rows taken over describe the new version: its job, and the places after the insertion.
    assert {row["job_id"] for row in rows} == {info.job_id}
    assert sorted(int(row["chunk_index"]) for row in rows) == list(range(21))


@on_both_databases
async def test_readers_see_the_old_version_or_the_new_one_never_a_mixture(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", paragraphs("old", 200), chunking_config=ONE_EACH)
        replaced = asyncio.create_task(fleet.ingest("1", paragraphs("new", 150), chunking_config=ONE_EACH))
        seen: set[str] = set()
        while not replaced.done() or seen != {"old", "new"}:
            hits = await fleet.system.search.search(TENANT, SearchRequest(query="paragraph", limit=40))
            versions = {hit.text.split()[0] for hit in hits}
            assert len(versions) == 1, versions
            seen |= versions
        await replaced
    assert seen == {"old", "new"}


@on_both_databases
async def test_a_newer_version_supersedes_an_unfinished_older_one(settings: Settings) -> None:
    async with open_guest(settings) as guest:
        first = await guest.jobs.create_job(media_id=1, user_id=TENANT, content="First words.")
        second = await guest.jobs.create_job(media_id=1, user_id=TENANT, content="Second words.")
        older = await guest.jobs.get_job_status(first)
    assert (older.status, older.reason) == (JobStatus.CANCELLED, "superseded")
    async with running(settings) as fleet:
        assert (await fleet.jobs.wait(second, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="words"))
    assert [hit.text for hit in hits] == ["Second words."]


@on_both_databases
async def test_submitting_what_is_under_way_returns_the_same_job(settings: Settings) -> None:
    async with open_guest(settings) as guest:
        first = await guest.jobs.create_job(media_id=1, user_id=TENANT, content="Once.")
        assert await guest.jobs.create_job(media_id=1, user_id=TENANT, content="Once.") == first


@on_both_databases
async def test_going_back_to_an_earlier_text_is_a_new_version(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", "Text A.")
        await fleet.ingest("1", "Text B.")
        back = await fleet.ingest("1", "Text A.")
        (await take_ledger(fleet.system)).assert_exact()
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="Text"))
    assert back.generation == 3
    assert [hit.text for hit in hits] == ["Text A."]


async def test_another_chunking_is_another_version(settings: Settings) -> None:
    async with running(settings) as fleet:
        content = paragraphs("cut", 30)
        await fleet.ingest("1", content, chunking_config=ONE_EACH)
        info = await fleet.ingest("1", content, chunking_config=ChunkingConfig(chunk_size=150, overlap=20))
        (await take_ledger(fleet.system)).assert_exact()
    assert info.generation == 2
    assert info.progress.chunks_total > 30


@on_both_databases
async def test_a_deleted_document_leaves_nothing_behind(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", paragraphs("gone", 30), chunking_config=ONE_EACH)
        kept = await fleet.ingest("2", "Kept.")
        assert await fleet.jobs.of(TENANT).delete_document(media_id="1")
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="gone", limit=50))
        assert [hit.text for hit in hits] == ["Kept."]  # at once, before anything was cleaned up
        await fleet.settled()
        ledger = await take_ledger(fleet.system)
        ledger.assert_exact()
        assert len(ledger.held) == 1
        rows = await fleet.system.database.read(
            lambda conn: {
                table.name: conn.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (
                    tables.documents,
                    tables.generations,
                    tables.segments,
                    tables.chunks,
                    tables.jobs,
                )
            }
        )
        assert set(rows.values()) == {1}, rows
        assert not await fleet.jobs.of(TENANT).delete_document(media_id="1")
        assert (await fleet.jobs.get_job_status(kept.job_id)).status is JobStatus.COMPLETED


@on_both_databases
async def test_a_deleted_document_can_come_back(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", "Here.")
        await fleet.jobs.of(TENANT).delete_document(media_id="1")
        info = await fleet.ingest("1", "Here.")
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="Here."))
    assert info.status is JobStatus.COMPLETED
    assert [hit.text for hit in hits] == ["Here."]


# --- cancel and retry ---


@on_both_databases
async def test_a_cancelled_job_leaves_no_vectors_and_can_be_retried(configure: Configure) -> None:
    # One task at a time through a narrow queue, so that there is a middle to cancel in.
    narrow = {"workers": 1, "batch_tasks": 1, "max_queued_tasks": 1}
    settings = configure(
        worker_pools={"embedding": narrow, "storage": narrow},
        chunking={"batch_chunks": 4},
    )
    async with running(settings) as fleet:
        job_id = await fleet.submit("1", paragraphs("half", 200), chunking_config=ONE_EACH)

        async def some_stored() -> bool:
            return (await fleet.jobs.get_job_status(job_id)).progress.chunks_stored > 0

        await until(some_stored, fleet.system.database)
        assert await fleet.jobs.cancel_job(job_id, user_id=TENANT)
        await fleet.settled()
        await fleet.idle()
        await fleet.settled()
        ledger = await take_ledger(fleet.system)
        assert ledger.held == frozenset()
        assert not await fleet.jobs.of(TENANT).cancel(job_id)

        await fleet.jobs.of(TENANT).retry(job_id)
        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
    assert info.status is JobStatus.COMPLETED
    assert info.progress.chunks_stored == info.progress.chunks_total == 200


async def test_a_cancelled_new_version_leaves_the_old_one_searchable(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", "Version one.")
    async with open_guest(settings) as guest:
        job_id = await guest.jobs.create_job(media_id="1", user_id=TENANT, content="Version two.")
        assert await guest.jobs.of(TENANT).cancel(job_id)
    async with running(settings) as fleet:
        await fleet.settled()
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="Version"))
        (await take_ledger(fleet.system)).assert_exact()
    assert [hit.text for hit in hits] == ["Version one."]


async def test_only_ended_jobs_with_something_left_to_do_can_be_retried(settings: Settings) -> None:
    async with running(settings) as fleet:
        done = await fleet.ingest("1", "Done.")
        with pytest.raises(InvalidRequest, match="nothing to retry"):
            await fleet.jobs.of(TENANT).retry(done.job_id)
    async with open_guest(settings) as guest:
        pending = await guest.jobs.create_job(media_id="2", user_id=TENANT, content="Soon.")
        with pytest.raises(InvalidRequest, match="still pending"):
            await guest.jobs.of(TENANT).retry(pending)
        await guest.jobs.of(TENANT).cancel(pending)
        await guest.jobs.create_job(media_id="2", user_id=TENANT, content="Newer.")
        with pytest.raises(InvalidRequest, match="newer version"):
            await guest.jobs.of(TENANT).retry(pending)


# --- tenants ---


@on_both_databases
async def test_tenants_never_see_each_other(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", "The secret of Alice.", user_id="alice")
        bobs = await fleet.ingest("1", "The secret of Bob.", user_id="bob")
        found: dict[str, list[SearchHit]] = {}
        for tenant in ("alice", "bob", "eve"):
            found[tenant] = await fleet.system.search.search(tenant, SearchRequest(query="secret", limit=10))
        assert [hit.text for hit in found["alice"]] == ["The secret of Alice."]
        assert [hit.text for hit in found["bob"]] == ["The secret of Bob."]
        assert found["eve"] == []
        with pytest.raises(UnknownJob):
            await fleet.jobs.of("alice").status(bobs.job_id)
        with pytest.raises(UnknownJob):
            await fleet.jobs.cancel_job(bobs.job_id, user_id="alice")
        with pytest.raises(UnknownJob):
            await fleet.jobs.of("alice").retry(bobs.job_id)
        assert [job.job_id for job in await fleet.jobs.of("bob").list_jobs()] == [bobs.job_id]
        assert not await fleet.jobs.of("eve").delete_document(media_id="1")


@on_both_databases
async def test_a_tenant_over_its_quota_is_told_what_to_do_and_nothing_is_stored(configure: Configure) -> None:
    settings = configure(
        tenants={"tiers": {"free": {"max_active_jobs": 1, "max_document_chars": 50, "daily_chars": 60}}},
    )
    async with open_guest(settings) as guest:
        create = guest.jobs.create_job
        with pytest.raises(QuotaExceeded, match="max_document_chars"):
            await create(media_id=1, user_id="u", content="x" * 51)
        job_id = await create(media_id=1, user_id="u", content="x" * 50)
        with pytest.raises(QuotaExceeded, match="max_active_jobs"):
            await create(media_id=2, user_id="u", content="y")
        await guest.jobs.of("u").cancel(job_id)
        with pytest.raises(QuotaExceeded, match="daily_chars"):
            await create(media_id=2, user_id="u", content="z" * 11)
        await create(media_id=2, user_id="u", content="z" * 10)
        await create(media_id=2, user_id="other", content="z" * 11)
        assert len(await guest.jobs.of("u").list_jobs()) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priority": 101}, "priority"),
        ({"priority": -1}, "priority"),
        ({"content": ""}, "content: is empty"),
        ({"content": " \n\t"}, "content: is empty"),
        ({"content": "broken \ud800 text"}, "lone surrogate at character 7"),
        ({"content_type": "application/pdf"}, "content_type"),
        ({"user_id": ""}, "user_id"),
        ({"media_id": ""}, "media_id"),
    ],
)
async def test_wrong_requests_are_refused_in_one_line(
    settings: Settings, wrong: dict[str, object], message: str
) -> None:
    async with open_guest(settings) as guest:
        fields: dict[str, object] = {"media_id": 1, "user_id": "u", "content": "fine"} | wrong
        with pytest.raises(InvalidRequest, match=message) as caught:
            await guest.jobs.create_job(**fields)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert await guest.jobs.of_all_tenants().list_jobs() == []


async def test_an_unknown_model_is_refused_with_the_nearest_known(settings: Settings) -> None:
    async with open_guest(settings) as guest:
        with pytest.raises(UnknownModel, match="minilm"):
            await guest.jobs.create_job(media_id=1, user_id="u", content="x", model="minilmm")


@on_both_databases
async def test_bulk_submission_is_all_or_nothing(settings: Settings) -> None:
    from embedfleet.queue_schemas import JobRequest

    async with running(settings) as fleet:
        requests = [JobRequest(media_id=str(n), user_id="u", content=f"Document {n}.") for n in range(50)]
        job_ids = await fleet.jobs.create_jobs(requests)
        assert len(set(job_ids)) == 50
        for job_id in job_ids:
            assert (await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        (await take_ledger(fleet.system)).assert_exact()
        too_much = JobRequest(media_id="x", user_id="u", content="y " * 5_500_000, user_tier=UserTier.FREE)
        with pytest.raises(QuotaExceeded):
            await fleet.jobs.create_jobs([JobRequest(media_id="fine", user_id="u", content="fine"), too_much])
        assert len(await fleet.jobs.of("u").list_jobs()) == 50


async def test_the_documented_calls_name_their_tenant_and_see_no_other(settings: Settings) -> None:
    async with open_guest(settings) as guest:
        mine = await guest.jobs.create_job(media_id=1, user_id=TENANT, content="Some words.")
        await guest.jobs.create_job(media_id=1, user_id="another", content="Other words.")
        assert [info.job_id for info in await guest.jobs.list_jobs(TENANT)] == [mine]
        with pytest.raises(UnknownJob):
            await guest.jobs.cancel_job(mine, "another")
        assert await guest.jobs.cancel_job(mine, TENANT)
        with pytest.raises(UnknownJob):
            await guest.jobs.retry_job(mine, "another")
        await guest.jobs.retry_job(mine, TENANT)
        assert [info.job_id for info in await guest.jobs.list_jobs(TENANT, status=JobStatus.PENDING)] == [
            mine
        ]
