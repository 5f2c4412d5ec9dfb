"""Collections of another system are taken over: what is right as it is, the rest embedded again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.adoption.adopting import Adoption
from embedfleet.adoption.groups import GroupOutcome
from embedfleet.adoption.judging import Outcome, Reason
from embedfleet.adoption.layout import LayoutOptions
from embedfleet.adoption.layouts import layout_of
from embedfleet.adoption.options import AdoptOptions
from embedfleet.adoption.report import Report
from embedfleet.adoption.texts import TextSource, text_source_of
from embedfleet.adoption.writing import Writing, _vector_rows
from embedfleet.bootstrap import open_adoption, open_guest, open_parts, open_store
from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.cli.verify import verify_store
from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, UnknownModel
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue_schemas import ChunkingConfig, JobStatus
from embedfleet.records import outbox
from embedfleet.records.audit import page
from embedfleet.records.collections import Collection, within
from embedfleet.records.identity import ChunkIds, document_id
from embedfleet.records.scope import EveryTenant
from embedfleet.repair.verification import Sampling
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.vectors.registry import source_kind
from support.chroma_server import ChromaServer
from support.foreign_chroma import ForeignCollection, ForeignRows, bytes_of, write_directory, written_server
from support.hangs import HANG_SECONDS
from support.redis_server import RedisServer
from support.right_vectors import many_texts, sentence_transformer
from support.system import ONE_EACH, Configure, running, take_ledger
from support.tldw_rows import Medium, media_collection, rows_of, stub_vectors, write_media

USER = "7"
PARAGRAPHS = [f"Paragraph {number} is about subject {number * 7}." for number in range(12)]
MEDIA = [
    Medium(1, PARAGRAPHS[:5], more={"media_type": "article", "score": 1.5}),
    Medium(2, PARAGRAPHS[5:6]),
    Medium(3, PARAGRAPHS[6:]),
]
STUB = AdoptOptions(models={"": "stub"})


async def adopted(
    settings: Settings,
    place: Path | str,
    *,
    scratch: Path | None = None,
    layout: str = "tldw",
    tenant: str = "t",
    document_key: str | None = None,
    options: AdoptOptions = STUB,
    texts: TextSource | None = None,
    dry_run: bool = False,
) -> Report:
    """One adoption by a process of its own."""
    async with open_adoption(settings, purpose="test", writing=not dry_run) as target:
        source = await source_kind("chroma").open_source(str(place), scratch=scratch or Path(place).parent)
        try:
            chosen = layout_of(layout, LayoutOptions(tenant, document_key))
            return await Adoption(source, chosen, target, options, texts=texts).run()
        finally:
            await source.close()


def counts(report: Report) -> dict[tuple[Outcome, Reason], int]:
    return {key: tally.documents for key, tally in report.tallies.items()}


def directory_of(tmp_path: Path, *collections: ForeignCollection) -> Path:
    directory = tmp_path / "source" / "chroma_storage"
    write_directory(directory, collections)
    return directory


async def test_a_directory_of_tldw_is_searched_and_verified_as_if_it_were_made_here(
    settings: Settings, tmp_path: Path
) -> None:
    rows = rows_of(MEDIA)
    claims = ForeignCollection(f"claims_for_{USER}", rows_of([Medium(9, ["a claim"])]))
    place = directory_of(tmp_path, media_collection(USER, rows), claims)
    before = bytes_of(place)
    report = await adopted(settings, place)
    assert counts(report) == {(Outcome.TAKE, Reason.RIGHT): 3}
    assert (report.rows, report.left_alone, report.job_ids) == (12, [f"claims_for_{USER}"], [])
    assert bytes_of(place) == before
    verified = await verify_store(settings, EveryTenant(), sampling=Sampling(1.0, 0))
    assert verified.left == 0
    assert [found.rows for found, _ in verified.found] == [12]
    async with running(settings) as fleet:
        access = fleet.jobs.of(USER)
        hits = await access.search(SearchRequest(query=PARAGRAPHS[7], limit=1))
        assert [(hit.media_id, hit.text) for hit in hits] == [("3", PARAGRAPHS[7])]
        (await take_ledger(fleet.system)).assert_exact()
        assert fleet.embedded() == 0


def noise(rows: ForeignRows) -> ForeignRows:
    """These rows with vectors of no model."""
    vectors = np.random.default_rng(1).standard_normal(rows.vectors.shape).astype(np.float32)
    return replace(rows, vectors=vectors)


def joined(*rows: ForeignRows) -> ForeignRows:
    return ForeignRows(
        [row_id for one in rows for row_id in one.ids],
        np.concatenate([one.vectors for one in rows]),
        [metadata for one in rows for metadata in one.metadatas],
        [text for one in rows for text in one.texts or ()],
    )


LONG = " ".join(f"word{number}" for number in range(600))
OLD_CHUNKS = ["The first part stays.", "The second part goes away.", "The third part too."]
ODD_MEDIA = [
    *MEDIA,
    Medium(4, [LONG, "A short chunk after a long one."]),
    Medium(5, OLD_CHUNKS, text="The first part stays."),
    Medium(6, ["A text that is longer by now."], text="A text that is longer by now. Here is more of it."),
    Medium(7, ["Thrown away."]),
    Medium(
        8,
        ["Words that were joined again", "joined again with other blanks."],
        text="Words  that were\njoined again  with other blanks.",
    ),
]
EXPECTED = {
    (Outcome.TAKE, Reason.RIGHT): 5,
    (Outcome.EMBED, Reason.TRUNCATED): 1,
    (Outcome.EMBED, Reason.CHANGED): 1,
    (Outcome.DROP, Reason.TEXT_GONE): 1,
}


@pytest.fixture
def texts(tmp_path: Path) -> TextSource:
    write_media(tmp_path / f"{USER}.db", ODD_MEDIA, deleted=[7])
    return text_source_of(f"sqlite:{tmp_path}/{{tenant}}.db")


async def test_what_is_not_right_is_embedded_again_and_what_is_stale_is_left_out(
    configure: Configure, tmp_path: Path, texts: TextSource
) -> None:
    settings = configure(prices={"per_million_tokens": {"stub": 1_000_000.0}})
    place = directory_of(tmp_path, media_collection(USER, rows_of(ODD_MEDIA)))
    planned = await adopted(settings, place, texts=texts, dry_run=True)
    assert counts(planned) == EXPECTED
    estimate = planned.estimate
    assert estimate is not None
    # What the jobs will be charged: a unit of money for a token.
    assert (estimate.embeds, estimate.cost) == (2, estimate.tokens)
    assert estimate.tokens > 600

    report = await adopted(settings, place, texts=texts)
    assert counts(report) == EXPECTED
    assert (report.stale_rows, len(report.job_ids)) == (2, 2)
    assert report.tokens_taken == planned.tokens_taken
    async with running(settings) as fleet:
        ended = await fleet.jobs.wait_many(report.job_ids, timeout_seconds=HANG_SECONDS)
        assert {job.status for job in ended.values()} == {JobStatus.COMPLETED}
        assert sum(job.progress.chunks_stored for job in ended.values()) == fleet.embedded()
        (await take_ledger(fleet.system)).assert_exact()
        access = fleet.jobs.of(USER)
        kept = [medium for medium in ODD_MEDIA if medium.number != 7]
        assert sorted(one.media_id for one in await access.list_documents()) == [
            str(medium.number) for medium in kept
        ]
        for medium in kept:
            assert (await access.read_text(media_id=medium.number)).text == medium.content
        stale = await access.search(SearchRequest(query=OLD_CHUNKS[1], limit=20))
        assert OLD_CHUNKS[1] not in [hit.text for hit in stale]
    assert (await verify_store(settings, EveryTenant(), sampling=Sampling(1.0, 0))).left == 0
    again = await adopted(settings, place, texts=texts)
    assert counts(again) == {(Outcome.THERE, Reason.THERE): 7, (Outcome.DROP, Reason.TEXT_GONE): 1}


async def assert_unchanged(settings: Settings, *expected: tuple[Medium, ForeignRows]) -> None:
    """Each vector that the store holds is that of the source, at length 1."""
    space = Catalogue(settings.models).info("stub").space
    wanted: dict[str, NDArray[np.float32]] = {}
    for medium, rows in expected:
        ids = ChunkIds(document_id(USER, str(medium.number)), space)
        for text in medium.chunks:
            vector = rows.vectors[(rows.texts or []).index(text)]
            wanted[ids.next_id(text)] = vector / np.linalg.norm(vector)
    async with open_parts(settings, purpose="test") as (database, _):
        collections = await database.read(lambda conn: within(conn, EveryTenant()))
    store = await open_store(settings)
    held: dict[str, NDArray[np.float32]] = {}
    for collection in collections:
        async for row_ids, vectors in store.scan(collection):
            held |= dict(zip(row_ids, vectors, strict=True))
    await store.close()
    assert held.keys() == wanted.keys()
    for row_id, vector in wanted.items():
        # Two units in the last place of a number below 1.
        np.testing.assert_allclose(held[row_id], vector, rtol=0, atol=1.2e-7)


async def test_a_group_that_does_not_match_its_model_is_refused_or_embedded_again(
    settings: Settings, tmp_path: Path
) -> None:
    good = rows_of(MEDIA[:1])
    # tldw_server mixes in vectors of another model of the same dimension, under the same name.
    wrong = joined(rows_of([Medium(20, PARAGRAPHS)]), noise(rows_of([Medium(21, ["Noise."])])))
    wrong = replace(wrong, metadatas=[{**(one or {}), "embedding_model": "mixed"} for one in wrong.metadatas])
    short = ForeignRows(
        ["30_chunk_0"], np.ones((1, 3), dtype=np.float32), [{"embedding_model": "stub"}], ["x"]
    )
    nameless = replace(rows_of([Medium(40, ["Nameless."])]), metadatas=[{"media_id": "40"}])
    place = directory_of(
        tmp_path,
        media_collection(USER, joined(good, wrong, nameless)),
        ForeignCollection(f"user_embeddings_for_{USER}", short),
    )
    options = AdoptOptions(models={"mixed": "stub"})
    report = await adopted(settings, place, options=options)
    assert counts(report) == {(Outcome.TAKE, Reason.RIGHT): 1, (Outcome.REFUSE, Reason.GROUP_REFUSED): 4}
    assert not report.whole
    told = {one.group.model: (one.outcome, one.reason) for one in report.groups}
    assert told["mixed"][1].startswith("1 of 13 rows have another vector (lowest cosine -0.0")
    assert told["stub"] == (GroupOutcome.REFUSE, "the model has 64 dimensions")
    assert told[""] == (GroupOutcome.REFUSE, "no configured model has this name: say which one it is")
    options = replace(options, models={"mixed": "stub", "": "stub"}, embed_wrong=True)
    report = await adopted(settings, place, options=options)
    assert counts(report) == {
        (Outcome.THERE, Reason.THERE): 1,
        (Outcome.EMBED, Reason.GROUP_WRONG): 3,
        (Outcome.TAKE, Reason.RIGHT): 1,
    }
    async with running(settings) as fleet:
        await fleet.jobs.wait_many(report.job_ids, timeout_seconds=HANG_SECONDS)
        (await take_ledger(fleet.system)).assert_exact()
    assert (await verify_store(settings, EveryTenant(), sampling=Sampling(1.0, 0))).left == 0


async def test_of_a_document_in_two_collections_the_right_rows_are_taken_at_length_1(
    settings: Settings, tmp_path: Path
) -> None:
    first = noise(rows_of([Medium(1, PARAGRAPHS)], model="bad"))
    second = rows_of([Medium(1, PARAGRAPHS[:2])], pattern="{}_chunk_{}")
    # A system that does not scale its vectors. Here all vectors of the model have length 1.
    second = replace(second, vectors=second.vectors * np.float32(3))
    place = directory_of(
        tmp_path, media_collection(USER, first), ForeignCollection(f"user_embeddings_for_{USER}", second)
    )
    report = await adopted(settings, place)
    assert counts(report) == {(Outcome.TAKE, Reason.RIGHT): 1}
    assert report.stale_rows == 12
    await assert_unchanged(settings, (Medium(1, PARAGRAPHS[:2]), second))
    assert (await verify_store(settings, EveryTenant(), sampling=Sampling(1.0, 0))).left == 0


SAME_CUT = ChunkingConfig(chunk_size=60, overlap=0, method="paragraphs", context=False)


async def test_a_resubmission_embeds_nothing_that_is_cut_alike_and_replaces_the_rest(
    settings: Settings, tmp_path: Path
) -> None:
    info = Catalogue(settings.models).info("stub")
    text = "\n\n".join(PARAGRAPHS)
    chunker = Chunker(load_tokenizer(info.tokenizer_file), SAME_CUT, max_tokens=info.max_tokens)
    cut = [chunk.text for block in chunker.split([text]) for chunk in block]
    assert len(cut) == len(PARAGRAPHS)
    media = [Medium(1, cut, text=text), Medium(2, cut, text=text)]
    write_media(tmp_path / "media.db", media)
    texts = text_source_of(f"sqlite:{tmp_path}/media.db")
    await adopted(settings, directory_of(tmp_path, media_collection(USER, rows_of(media))), texts=texts)
    fields = {"user_id": USER, "title": "Title 1"}
    async with running(settings) as fleet:
        await fleet.ingest("1", text, chunking_config=SAME_CUT, **fields)
        assert fleet.embedded() == 0
        (await take_ledger(fleet.system)).assert_exact()
        await fleet.ingest("1", text, chunking_config=ONE_EACH, **fields)
        (await take_ledger(fleet.system)).assert_exact()
        assert fleet.embedded() > 0
        # Cut as the settings say, though the document that is here has the same text.
        assert (await fleet.ingest("2", text, **(fields | {"title": "Title 2"}))).reason is None
        (await take_ledger(fleet.system)).assert_exact()
        chunks = await fleet.jobs.of(USER).list_chunks(media_id="2")
        assert len(chunks.chunks) < len(cut)


async def test_what_was_deleted_here_comes_back_if_the_source_has_it_unless_it_is_to_be_left(
    settings: Settings, tmp_path: Path
) -> None:
    media = [*MEDIA, Medium(4, ["Its job was cancelled."])]
    place = directory_of(tmp_path, media_collection(USER, rows_of(media)))
    async with open_guest(settings) as guest:
        jobs = guest.jobs.of(USER)
        await jobs.cancel(await jobs.create_job(media_id="4", content="Another text."))
    # No version of it was left, so it is taken too.
    assert counts(await adopted(settings, place)) == {(Outcome.TAKE, Reason.RIGHT): 4}
    async with open_guest(settings) as guest:
        await guest.jobs.of(USER).delete_document(media_id="1")
    left = await adopted(settings, place, options=replace(STUB, leave_deleted=True))
    assert counts(left) == {(Outcome.THERE, Reason.THERE): 3, (Outcome.DROP, Reason.DELETED): 1}
    # Without workers nothing deletes its vectors, and they must not be written before that.
    busy = await adopted(settings, place)
    assert counts(busy) == {(Outcome.THERE, Reason.THERE): 3, (Outcome.REFUSE, Reason.CHANGING): 1}
    async with running(settings) as fleet:
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
    report = await adopted(settings, place)
    assert counts(report) == {(Outcome.THERE, Reason.THERE): 3, (Outcome.TAKE, Reason.RIGHT): 1}
    assert report.restored == 1
    async with open_guest(settings) as guest:
        audit = await guest.database.read(lambda conn: page(conn, EveryTenant(), limit=1, after=None))
        assert audit[0].deed.details["take"] == 1
    async with running(settings) as fleet:
        (await take_ledger(fleet.system)).assert_exact()
        assert fleet.embedded() == 0


class Killed(BaseException):
    """The end of the process, as far as the adoption can tell."""


@pytest.fixture(params=["among the vectors", "after the vectors"])
def killed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first adoption dies at its second page, and every page is one document."""
    really = Writing._store_vectors
    calls: list[int] = []

    async def dying(self: Writing, collection: Collection, begun: Any) -> dict[str, bytes]:
        calls.append(1)
        if len(calls) != 2:
            return await really(self, collection, begun)
        if request.param == "among the vectors":
            rows = _vector_rows(begun, set(), with_documents=True)
            await self._store.upsert(collection, rows.part(0, 1))
        elif request.param == "after the vectors":
            await really(self, collection, begun)
        raise Killed

    monkeypatch.setattr(Writing, "_store_vectors", dying)
    monkeypatch.setattr("embedfleet.adoption.reading._DOCUMENTS_PER_PAGE", 1)


BIG_LAST = [MEDIA[1], MEDIA[0], MEDIA[2]]


@pytest.mark.usefixtures("killed")
async def test_an_adoption_that_was_killed_is_ended_by_the_next_one_with_no_vector_changed(
    settings: Settings, tmp_path: Path
) -> None:
    rows = rows_of(BIG_LAST)
    place = directory_of(tmp_path, media_collection(USER, rows))
    with pytest.raises(Killed):
        await adopted(settings, place)
    report = await adopted(settings, place)
    assert counts(report) == {(Outcome.THERE, Reason.THERE): 1, (Outcome.TAKE, Reason.RIGHT): 2}
    await assert_unchanged(settings, *((medium, rows) for medium in BIG_LAST))
    async with running(settings) as fleet:
        (await take_ledger(fleet.system)).assert_exact()
        assert fleet.embedded() == 0


@pytest.mark.parametrize("killed", ["among the vectors"], indirect=True)
@pytest.mark.usefixtures("killed")
async def test_an_adoption_that_was_killed_for_good_is_ended_by_the_workers(
    settings: Settings, tmp_path: Path
) -> None:
    place = directory_of(tmp_path, media_collection(USER, rows_of(BIG_LAST)))
    with pytest.raises(Killed):
        await adopted(settings, place)
    async with open_guest(settings) as guest:
        # A leader that runs beside the adoption leaves its jobs alone, while there is a broker that lives.
        now = SystemClock().now()
        look = partial(outbox.offered_page, after="", until=now, limit=9)
        assert await guest.database.read(look) == []
        assert await guest.database.read(lambda conn: outbox.unoffered(conn, 9)) == []
    async with running(settings) as fleet:
        jobs = [job.job_id for job in await fleet.jobs.of(USER).list_jobs()]
        ended = await fleet.jobs.wait_many(jobs, timeout_seconds=HANG_SECONDS)
        assert [job.status for job in ended.values()] == [JobStatus.COMPLETED] * 2
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_rows_of_langchain_become_documents_in_another_collection_of_their_own_server(
    configure: Configure, tmp_path: Path, chroma_server: ChromaServer
) -> None:
    tenant = f"readers-{uuid4().hex}"
    settings = configure(vector_store={"url": chroma_server.url})
    chunks = [f"{name} part {number}" for name in ("a", "b") for number in range(3)]
    metadatas = [
        {"source": f"{name}.txt", "start_index": number * 100, "lang": "en"}
        for name in ("a", "b")
        for number in range(3)
    ]
    ids = [str(UUID(int=number * 7919 % 100)) for number in range(6)]
    rows = ForeignRows(ids, stub_vectors(chunks), metadatas, chunks)
    with written_server(chroma_server.url, [ForeignCollection("langchain", rows)]):
        report = await adopted(
            settings,
            chroma_server.url,
            layout="langchain",
            tenant=tenant,
            options=replace(STUB, collections=["langchain"]),
            scratch=tmp_path,
        )
    assert counts(report) == {(Outcome.TAKE, Reason.RIGHT): 2}
    async with running(settings) as fleet:
        access = fleet.jobs.of(tenant)
        text = await access.read_text(media_id="b.txt")
        assert text.text == "b part 0\n\nb part 1\n\nb part 2"
        assert (await access.get_document(media_id="a.txt")).metadata == {"lang": "en"}


async def test_a_collection_that_is_not_there_and_a_wrong_model_are_told_of_by_name(
    settings: Settings, tmp_path: Path
) -> None:
    place = directory_of(tmp_path, media_collection(USER, rows_of(MEDIA[:1])))
    options = replace(STUB, collections=[f"user_{USER}_media_embedding"])
    with pytest.raises(InvalidRequest, match=f"did you mean `user_{USER}_media_embeddings`"):
        await adopted(settings, place, options=options, dry_run=True)
    with pytest.raises(UnknownModel, match="did you mean `stub`"):
        await adopted(settings, place, options=AdoptOptions(models={"": "stubb"}), dry_run=True)


async def test_rows_that_are_all_cut_off_show_their_model_and_are_embedded_again(
    settings: Settings, tmp_path: Path
) -> None:
    """As tldw_server makes them for a short model, with its 1,000 words."""
    media = [Medium(1, [LONG, LONG.upper()])]
    good, bad = rows_of(media), noise(rows_of([Medium(2, [LONG])], model="bad"))
    place = directory_of(tmp_path, media_collection(USER, joined(good, bad)))
    report = await adopted(settings, place, dry_run=True)
    assert counts(report) == {(Outcome.EMBED, Reason.TRUNCATED): 1, (Outcome.REFUSE, Reason.GROUP_REFUSED): 1}
    assert [one.sample.same for one in report.groups] == [2, 0]


@pytest.mark.slow
async def test_what_sentence_transformers_made_is_right_for_the_same_model_and_nearly_for_its_8_bit_one(
    configure: Configure, tmp_path: Path, minilm_folder: Path
) -> None:
    texts = many_texts()[:60]
    vectors = sentence_transformer(minilm_folder).encode(texts, normalize_embeddings=True)
    media = [Medium(number, [text]) for number, text in enumerate(texts)]
    rows = replace(rows_of(media, model="all-MiniLM-L6-v2"), vectors=vectors)
    place = directory_of(tmp_path, media_collection(USER, rows))
    whole = {"backend": "torch", "path": str(minilm_folder), "devices": ["cpu"]}
    settings = configure(models={"default": "whole", "catalogue": {"whole": whole}})
    report = await adopted(settings, place, options=AdoptOptions(models={"": "whole"}), dry_run=True)
    assert [one.outcome for one in report.groups] == [GroupOutcome.TAKE]
    # Without a name it is the built-in model, whose weights have 8 bits.
    refused = await adopted(settings, place, options=AdoptOptions(), dry_run=True)
    assert [(one.outcome, one.model) for one in refused.groups] == [(GroupOutcome.REFUSE, "minilm")]
    assert refused.groups[0].reason.endswith("if you accept a lower cosine")
    taken = await adopted(settings, place, options=AdoptOptions(least_cosine=0.98), dry_run=True)
    assert [one.outcome for one in taken.groups] == [GroupOutcome.TAKE]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("database_url")
async def test_beside_a_fleet_at_work_its_workers_embed_what_is_not_taken(
    configure: Configure, tmp_path: Path, chroma_server: ChromaServer, redis_server: RedisServer
) -> None:
    settings = configure(
        vector_store={"url": chroma_server.url},
        redis={"url": redis_server.url},
        orchestrator={"launcher": "inline"},
    )
    user = f"fleet-{uuid4().hex}"
    media = [*MEDIA, Medium(4, [LONG])]
    place = directory_of(tmp_path, media_collection(user, rows_of(media)))
    async with running(settings) as fleet:
        report = await adopted(settings, place)
        assert counts(report) == {(Outcome.TAKE, Reason.RIGHT): 3, (Outcome.EMBED, Reason.TRUNCATED): 1}
        await fleet.jobs.wait_many(report.job_ids, timeout_seconds=HANG_SECONDS)
        (await take_ledger(fleet.system)).assert_exact()
        assert len(await fleet.jobs.of(user).list_documents()) == 4
