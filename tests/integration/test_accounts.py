"""What of a source is not in its text is told wherever the document is, and a strict job does not lose it."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from embedfleet.account import NOTHING_SAID, Account, Entry
from embedfleet.account_codes import Code
from embedfleet.errors import InvalidRequest
from embedfleet.places import Places
from embedfleet.queue_schemas import JobRequest, JobStatus
from embedfleet.records import events
from embedfleet.records.scope import EveryTenant
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.system import TENANT, running, until

LOST = Account((("pages", 2),), (Entry(Code.CHARACTERS_REPLACED, 12, 12, ("not utf-8",)),))
FIRST, SECOND = "The first page is about gates. ", "The second page is about wheels."


def request(*, media_id: str = "1", content: str = FIRST + SECOND, strict: bool = False) -> JobRequest:
    return JobRequest(
        media_id=media_id,
        user_id=TENANT,
        content=content,
        title="A book",
        account=LOST,
        places=Places(((0, 3), (len(FIRST), 4)), ((0, 1.5, 2.5), (len(FIRST), 4.0, 9.0))),
        strict=strict,
    )


@on_both_databases
async def test_the_account_the_title_and_the_places_go_wherever_the_document_goes(settings: Settings) -> None:
    async with running(settings) as fleet:
        (job_id,) = await fleet.jobs.create_jobs([request()])
        job = await fleet.jobs.wait(job_id)
        visible = len((FIRST + SECOND).replace(" ", ""))
        assert (job.status, job.account) == (JobStatus.COMPLETED, LOST)
        assert job.coverage == visible / (visible + 12)
        assert job.json_document()["account"]["entries"][0]["code"] == "encoding.characters_replaced"

        (document,) = [one async for one in fleet.jobs.of(TENANT).all_documents()]
        assert (document.title, document.account) == ("A book", LOST)
        assert (document.chunks, document.coverage) == (1, job.coverage)

        database = fleet.system.database

        async def is_numbered() -> bool:
            return not await database.read(events.any_unnumbered)

        await until(is_numbered, database)
        (told,) = await database.read(lambda conn: events.after(conn, EveryTenant(), 0, 9))
        assert told.account == LOST

        (hit,) = await fleet.system.search.search(TENANT, SearchRequest(query="wheels"))
        assert (hit.page, hit.start_seconds, hit.end_seconds) == (3, 1.5, 9.0)


async def test_copies_of_a_text_are_one_hit_that_names_them(settings: Settings) -> None:
    async with running(settings) as fleet:
        texts = {"a": "A text about gates.", "b": "A text about gates.", "c": "A text about geese."}
        jobs = [JobRequest(media_id=name, user_id=TENANT, content=text) for name, text in texts.items()]
        await fleet.jobs.wait_many(await fleet.jobs.create_jobs(jobs))
        hits = await fleet.system.search.search(TENANT, SearchRequest(query=texts["a"], limit=2))
        assert [hit.text for hit in hits] == [texts["a"], texts["c"]]
        assert {hits[0].media_id, *(copy.media_id for copy in hits[0].copies)} == {"a", "b"}
        assert hits[1].copies == ()


async def test_the_same_text_at_other_seconds_is_another_version(settings: Settings) -> None:
    async with running(settings) as fleet:
        (first,) = await fleet.jobs.create_jobs([request()])
        await fleet.jobs.wait(first)
        later = request().model_copy(update={"places": Places(cues=((0, 100.0, 200.0),))})
        (second,) = await fleet.jobs.create_jobs([later])
        assert (await fleet.jobs.wait(second)).generation == 2
        (hit,) = await fleet.system.search.search(TENANT, SearchRequest(query="wheels"))
        assert (hit.page, hit.start_seconds) == (None, 100.0)


async def test_a_strict_job_fails_if_content_is_lost_and_readers_keep_their_version(
    settings: Settings,
) -> None:
    async with running(settings) as fleet:
        whole = request().model_copy(update={"account": NOTHING_SAID})
        (first,) = await fleet.jobs.create_jobs([whole.model_copy(update={"content": "An old version."})])
        await fleet.jobs.wait(first)
        (strict,) = await fleet.jobs.create_jobs([request(strict=True)])
        refused = await fleet.jobs.wait(strict)
        assert refused.status is JobStatus.FAILED
        assert "12 characters that are not valid" in (refused.reason or "")
        (hit,) = await fleet.system.search.search(TENANT, SearchRequest(query="version"))
        assert hit.text == "An old version."

        (loose,) = await fleet.jobs.create_jobs([request()])
        assert (await fleet.jobs.wait(loose)).status is JobStatus.COMPLETED
        # What readers see lost content, so a strict job does not take it for the same.
        (again,) = await fleet.jobs.create_jobs([request(strict=True)])
        assert (await fleet.jobs.wait(again)).status is JobStatus.FAILED


async def test_what_the_model_does_not_know_is_said_by_the_job_and_by_searches(settings: Settings) -> None:
    def job(media_id: str, content: str, *, strict: bool = False) -> JobRequest:
        return JobRequest(media_id=media_id, user_id=TENANT, content=content, strict=strict)

    async with running(settings) as fleet:
        texts = [job("menu", "menu 菜单价格表"), job("plain", "A ﬁne oﬃce."), job("none", "��")]
        texts.append(job("strict", "婚礼邀请函", strict=True))
        ids = await fleet.jobs.create_jobs(texts)
        menu, plain, none, strict = [await fleet.jobs.wait(job_id) for job_id in ids]
        (entry,) = menu.account.entries
        assert (entry.code, entry.count, entry.chars) == (Code.UNKNOWN_TEXT, 5, 5)
        unknown = select(func.sum(tables.chunks.c.unknown))
        assert await fleet.system.database.read(lambda conn: conn.execute(unknown).scalar()) == 5
        assert (menu.status, menu.coverage) == (JobStatus.COMPLETED, 4 / 9)
        assert (plain.status, plain.account, plain.coverage) == (JobStatus.COMPLETED, NOTHING_SAID, 1.0)
        assert (none.status, "holds no text" in (none.reason or "")) == (JobStatus.FAILED, True)
        assert (strict.status, "does not know" in (strict.reason or "")) == (JobStatus.FAILED, True)

        search = fleet.system.search.search
        asked = await search(TENANT, SearchRequest(query="婚礼 menu"))
        assert asked.notice is not None
        assert "does not know 33% of the query" in asked.notice
        assert (await search(TENANT, SearchRequest(query="fine office"))).notice is None
        with pytest.raises(InvalidRequest, match="makes no token of the query"):
            await search(TENANT, SearchRequest(query="�"))
        with pytest.raises(InvalidRequest, match="is empty"):
            SearchRequest(query="​⁠")
