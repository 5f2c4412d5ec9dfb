"""What stands above a chunk is embedded with it: part of its vector and id, and no part of its text."""

from __future__ import annotations

from sqlalchemy import Connection, func, update

from embedfleet.bootstrap import open_repair
from embedfleet.queue_schemas import ChunkingConfig, JobInfo
from embedfleet.records.scope import EveryTenant
from embedfleet.repair.verification import Sampling
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.system import ONE_EACH, TENANT, Running, paragraphs, running, take_ledger

TEXT = paragraphs("text", 6)
UNDER_A_HEADING = f"# Pumps\n\nShort.\n\n## Seals\n\n{TEXT}"


async def ingest(fleet: Running, text: str, *, title: str | None = None, context: bool = True) -> float:
    """How many chunks a model embeds for this version of the document."""
    before = fleet.embedded()
    config = ONE_EACH.model_copy(update={"context": context})
    job: JobInfo = await fleet.ingest("1", text, title=title, chunking_config=config, content_type="markdown")
    await fleet.idle()
    assert job.coverage == 1.0
    return fleet.embedded() - before


@on_both_databases
async def test_another_title_or_heading_gives_other_vectors_and_the_same_one_costs_no_model(
    settings: Settings,
) -> None:
    async with running(settings) as fleet:
        assert await ingest(fleet, TEXT, title="Pumps") == 6
        assert await ingest(fleet, TEXT, title="Pumps") == 0
        assert await ingest(fleet, TEXT, title="Valves") == 6
        assert await ingest(fleet, TEXT, title="Pumps") == 0, "from the cache"
        assert await ingest(fleet, TEXT) == 6
        assert await ingest(fleet, UNDER_A_HEADING) == 6
        assert await ingest(fleet, UNDER_A_HEADING.replace("Seals", "Shafts")) == 6
        assert await ingest(fleet, UNDER_A_HEADING, context=False) == 0, "as before, without"
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_version_that_was_made_before_chunks_had_contexts_does_not_count_as_one_that_has_them(
    settings: Settings,
) -> None:
    def written_by_an_older_release(conn: Connection) -> None:
        without = func.json_remove(tables.generations.c.chunking, "$.context")
        conn.execute(update(tables.generations).values(chunking=without))

    async with running(settings) as fleet:
        assert await ingest(fleet, TEXT, title="Pumps", context=False) == 6
        await fleet.system.database.write(written_by_an_older_release)
        assert await ingest(fleet, TEXT, title="Pumps") == 6


async def test_hits_have_their_text_and_apart_from_it_what_was_embedded_before_it(settings: Settings) -> None:
    async with running(settings) as fleet:
        await ingest(fleet, UNDER_A_HEADING, title="Plant")
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="seals", limit=20))
    (last,) = (hit for hit in hits if hit.text.startswith("text paragraph 5"))
    assert last.context == "Plant > Pumps > Seals\n\n"
    assert last.heading == "Pumps > Seals"
    assert UNDER_A_HEADING[last.start : last.end] == last.text


async def test_every_chunk_of_a_markdown_table_is_embedded_with_its_header_row(settings: Settings) -> None:
    rows = "".join(f"| {n} | valve-{n:03} | {n * 7 % 100} bar | shelf {n} |\n" for n in range(200))
    table = f"# Valves\n\n| Nr | Part | Burst pressure | Location |\n|---|---|---|---|\n{rows}"
    async with running(settings) as fleet:
        await fleet.ingest("1", table, content_type="markdown", chunking_config=ChunkingConfig())
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="burst pressure", limit=100))
    assert len(hits) > 4
    assert all("| Nr | Part | Burst pressure | Location |\n" in hit.context + hit.text for hit in hits)
    assert all(table[hit.start : hit.end] == hit.text for hit in hits)


async def test_vectors_are_verified_and_made_again_with_their_contexts(settings: Settings) -> None:
    async with running(settings) as fleet:
        await ingest(fleet, UNDER_A_HEADING, title="Plant")
    every = Sampling(1.0, seed=1)
    async with open_repair(settings, purpose="test", scope=EveryTenant(), sampling=every) as system:
        checked = await system.verification.check(system.collections[0])
        assert (checked.count, checked.sampled) == (0, 6)
    async with open_repair(settings, purpose="test", scope=EveryTenant(), empty=True) as system:
        missing = await system.verification.check(system.collections[0])
        assert await system.rebuilding.mend(missing) == 6
        assert (system.truth.embedded, system.truth.cached) == (0, 6)
