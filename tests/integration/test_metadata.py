"""Metadata of documents: kept in SQL and in the vector store, changed without embedding anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from embedfleet.errors import InvalidRequest, Remedy, UnknownDocument
from embedfleet.ingest import FileState, Ingest, IngestOptions, LocalIntake, find_files
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import DocumentInfo
from embedfleet.settings import Settings
from support.hangs import HANG_SECONDS
from support.system import TENANT, Running, read_chroma, running

LEGAL = {"team": "legal", "year": 2024, "score": 0.5, "public": True, "tags": ["a", "b"], "none": []}


async def described(fleet: Running) -> dict[str, dict[str, Any]]:
    documents: list[DocumentInfo] = [one async for one in fleet.jobs.of(TENANT).all_documents()]
    return {one.media_id: one.metadata for one in documents}


async def test_metadata_changes_in_sql_and_in_the_store_without_embedding(settings: Settings) -> None:
    text, other = "# Law\n\nWords of law.\n", "Words of sales."
    async with running(settings) as fleet:
        await fleet.ingest("1", text, metadata=LEGAL)
        await fleet.ingest("2", other, metadata={"team": "sales", "old": ["x"]})
        await fleet.ingest("3", "Without any.")
        assert await described(fleet) == {"1": LEGAL, "2": {"team": "sales", "old": ["x"]}, "3": {}}
        embedded = fleet.embedded()

        await fleet.ingest("1", text)  # says nothing of metadata
        await fleet.ingest("2", other, metadata={"team": "support"})  # says all of it
        mine = fleet.jobs.of(TENANT)
        assert await mine.set_metadata(media_id=3, patch={"team": "new", "gone": None}) == {"team": "new"}
        await fleet.settled()
        assert await described(fleet) == {"1": LEGAL, "2": {"team": "support"}, "3": {"team": "new"}}
        assert fleet.embedded() == embedded

        await fleet.ingest("3", "Another text, the same metadata.")
        assert (await described(fleet))["3"] == {"team": "new"}
        await fleet.ingest("3", "Another text, the same metadata.", metadata={})
        assert (await described(fleet))["3"] == {}

        for stranger in (
            mine.set_metadata(media_id="4", patch={}),
            fleet.jobs.of("eve").set_metadata(media_id="1", patch={"a": 1}),
        ):
            with pytest.raises(UnknownDocument, match="has no document") as unknown:
                await stranger
            assert unknown.value.remedy is Remedy.LIST_DOCUMENTS
        with pytest.raises(InvalidRequest, match=r"^metadata: name `source`"):
            await mine.set_metadata(media_id="1", patch={"source": "x"})
    rows = {row["media_id"]: row for row in read_chroma(settings)}
    assert {name: rows["1"].get(name) for name in LEGAL} == {**LEGAL, "none": None}
    assert (rows["2"]["team"], "old" in rows["2"]) == ("support", False)
    assert "team" not in rows["3"]


async def test_an_ingest_describes_files_and_describes_unchanged_ones_again(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a.md", "b.md", "c.md"):
        (folder / name).write_text(f"Words of {name}.")
    (folder / "a.md.meta.json").write_text(json.dumps({"team": "legal"}))
    (folder / "c.md.meta.json").write_text("{")
    (folder / "alone.md.meta.json").write_text('{"it": "is a document"}')
    found = find_files([folder])
    assert [Path(file).name for file in found.files] == ["a.md", "alone.md.meta.json", "b.md", "c.md"]
    assert found.skipped == {}

    async with running(settings) as fleet, ParserSandbox(settings.parsing) as parser:

        async def ingest(metadata: dict[str, Any] | None) -> dict[str, FileState]:
            options = IngestOptions(tenant=TENANT, metadata=metadata)
            files = Ingest(LocalIntake(fleet.jobs, parser, options.tenant), options)
            outcomes = [one async for one in files.submit(found.files)]
            job_ids = [one.job_id for one in outcomes if one.job_id is not None]
            await fleet.jobs.wait_many(job_ids, timeout_seconds=HANG_SECONDS)
            return {Path(one.source).name: one.state for one in outcomes}

        async def metadata() -> dict[str, dict[str, Any]]:
            documents = [one async for one in fleet.jobs.of(TENANT).all_documents()]
            return {Path(one.source or "").name: one.metadata for one in documents}

        assert (await ingest({"team": "all", "year": 1}))["c.md"] is FileState.FAILED
        assert await metadata() == {
            "a.md": {"team": "legal", "year": 1},
            "b.md": {"team": "all", "year": 1},
            "alone.md.meta.json": {"team": "all", "year": 1},
        }
        await asyncio.to_thread((folder / "a.md.meta.json").write_text, json.dumps({"team": "sales"}))
        states = await ingest(None)
        assert (states["a.md"], states["b.md"]) == (FileState.UNCHANGED, FileState.UNCHANGED)
        assert (await metadata())["a.md"] == {"team": "sales"}
        assert (await metadata())["b.md"] == {"team": "all", "year": 1}
