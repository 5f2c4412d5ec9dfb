"""Collections of another system are taken over: what is right as it is, the rest embedded again."""

from __future__ import annotations

from pathlib import Path

from embedfleet.adoption.adopting import Adoption
from embedfleet.adoption.judging import Outcome, Reason
from embedfleet.adoption.layout import LayoutOptions
from embedfleet.adoption.layouts import layout_of
from embedfleet.adoption.options import AdoptOptions
from embedfleet.adoption.report import Report
from embedfleet.adoption.texts import TextSource
from embedfleet.bootstrap import open_adoption
from embedfleet.cli.verify import verify_store
from embedfleet.records.scope import EveryTenant
from embedfleet.repair.verification import Sampling
from embedfleet.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.vectors.registry import source_kind
from support.foreign_chroma import ForeignCollection, bytes_of, write_directory
from support.system import running, take_ledger
from support.tldw_rows import Medium, media_collection, rows_of

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
    place: Path,
    *,
    layout: str = "tldw",
    tenant: str = "t",
    document_key: str | None = None,
    options: AdoptOptions = STUB,
    texts: TextSource | None = None,
    dry_run: bool = False,
) -> Report:
    """One adoption by a process of its own."""
    async with open_adoption(settings, purpose="test", writing=not dry_run) as target:
        source = await source_kind("chroma").open_source(str(place), scratch=place.parent)
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
