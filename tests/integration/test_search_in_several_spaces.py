"""A search without a model asks every space of the tenant, and orders hits by how rare their scores are."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select

from embedfleet.errors import UnknownModel
from embedfleet.model_switching import orders
from embedfleet.queue_schemas import SearchHits
from embedfleet.searching.search import SearchRequest
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.system import TENANT, Configure, Running, running, until

PROSE = {
    "bridge": "The council decided that the new bridge over the river will be built next year.",
    "bread": "Knead the dough, let it rise for an hour, then bake the bread in a hot oven.",
    "whale": "Whales are mammals that breathe air and feed their young with milk.",
}
CODE = {
    "add": "def add(left, right):\n    total = left + right\n    return total\n",
    "read": "def read_lines(path):\n    with open(path) as file:\n        return file.readlines()\n",
}


async def fill(fleet: Running) -> None:
    for media_id, text in PROSE.items():
        await fleet.ingest(media_id, text, model="minilm")
    for media_id, text in CODE.items():
        await fleet.ingest(media_id, text, content_type="code", model="static")


async def asked(fleet: Running, query: str, model: str | None = None, *, limit: int = 5) -> SearchHits:
    return await fleet.system.search.search(TENANT, SearchRequest(query=query, model=model, limit=limit))


async def kept(fleet: Running) -> dict[int, float]:
    """When each background was made, by the number of documents that it was made of."""

    def look(conn: Connection) -> dict[int, float]:
        return {row.documents: row.made_at for row in conn.execute(select(tables.score_backgrounds))}

    return await fleet.system.database.read(look)


@on_both_databases
async def test_every_space_is_searched_and_the_rarest_scores_come_first(configure: Configure) -> None:
    async with running(configure(models={"default": "minilm"})) as fleet:
        await fill(fleet)
        for query, first, model in (
            ("how do I make a loaf of bread", "bread", "minilm"),
            ("function that reads the lines of a file", "read", "static"),
        ):
            hits = await asked(fleet, query)
            assert {hit.media_id for hit in hits} == {*PROSE, *CODE}
            assert (hits[0].media_id, hits[0].model) == (first, model)
            assert (set(hits.models), hits.not_searched, hits.notice) == ({"minilm", "static"}, (), None)
            rare = [hit.calibrated or 0.0 for hit in hits]
            assert rare == sorted(rare, reverse=True)
            named = await asked(fleet, query, model)
            assert (named.models, named[0].media_id, named[0].calibrated) == ((model,), first, None)
            assert SearchHits.of_json(hits.json_document()).json_document() == hits.json_document()
        made = await kept(fleet)
        assert set(made) == {len(PROSE), len(CODE)}
        for number in range(len(CODE)):
            await fleet.ingest(f"more {number}", f"more = {number}", content_type="code", model="static")
        await asked(fleet, "anything")
        assert await kept(fleet) == made  # twice as many are not many more
        await fleet.ingest("one more", "one = 1", content_type="code", model="static")
        await asked(fleet, "anything")
        assert set(await kept(fleet)) == {len(PROSE), 2 * len(CODE) + 1}


async def test_a_model_that_is_gone_is_named_and_the_others_answer(configure: Configure) -> None:
    other = {"other": {"backend": "stub", "query_prefix": "another space: "}}
    async with running(configure(models={"default": "stub", "catalogue": other})) as fleet:
        await fleet.ingest("1", "Words of one model.", model="other")
        await fleet.ingest("2", "Words of two models.")
        assert {hit.media_id for hit in await asked(fleet, "words")} == {"1", "2"}
    async with running(configure(models={"default": "stub"})) as fleet:
        hits = await asked(fleet, "words")
        assert ([hit.media_id for hit in hits], hits.models) == (["2"], ("stub",))
        (left_out,) = hits.not_searched
        assert (left_out.model, left_out.documents) == ("other", 1)
        assert "no model `other` in the catalogue" in (left_out.reason or "")
        lacking = f"1 document of model `other` not searched: {left_out.reason}"
        assert hits.notice == lacking
        # What a filter allows is known of the spaces that were searched only.
        none = SearchRequest(query="words", media_ids=["1"])
        found = await fleet.system.search.search(TENANT, none)
        assert found.notice == f"{lacking}; the filter allows no passage of tenant `{TENANT}`"
        await fleet.jobs.of(TENANT).delete_document(media_id="2")
        with pytest.raises(UnknownModel):
            await asked(fleet, "words")


async def test_a_switch_to_a_model_that_has_other_documents_hides_none_and_shows_none_twice(
    configure: Configure,
) -> None:
    """Code goes over to the model that prose has already, so the two spaces of the switch differ."""
    settings = configure(models={"default": "minilm"})
    everything = sorted([*PROSE, *CODE])
    async with running(settings) as fleet:
        await fill(fleet)
        wanted = orders.Wanted(fleet.system.catalogue.info("minilm"), from_model="static", percent=0.0)
        await fleet.system.database.write(lambda conn: orders.begin(conn, [TENANT], wanted, 1.0))

        async def look() -> dict[str, str | None]:
            hits = await asked(fleet, "lines of a file", limit=20)
            assert sorted(hit.media_id for hit in hits) == everything
            return {hit.media_id: hit.model for hit in hits}

        before = await look()
        assert {before[name] for name in PROSE} == {"minilm"}
        assert {before[name] for name in CODE} == {"static"}

        async def filled() -> bool:
            named = await asked(fleet, "lines of a file", "minilm", limit=20)
            return sorted(hit.media_id for hit in named) == everything

        await until(filled, fleet.system.database)
        assert await look() == before
