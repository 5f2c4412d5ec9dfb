"""Views: another system reads its own collections, and finds the live documents in them."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embedfleet.cli.doctor_checks import checks_of
from embedfleet.cli.verify import rebuild_store, verify_store
from embedfleet.queue_schemas import Receipt
from embedfleet.records import collections, views
from embedfleet.records.scope import EveryTenant
from embedfleet.settings import Settings
from support.system import ONE_EACH, Running, make_settings, paragraphs, running, until
from support.view_readers import StoredRow, TldwReader, open_client, write_as_tldw
from support.views import in_step

USER = "7"
WHALES = paragraphs("whale", 3)
STUB_DIM = 64


def settings_of(tmp_path: Path, **more: Any) -> Settings:
    view = {"name": "rag", "layout": "tldw", "path": str(tmp_path / "users/{tenant}/chroma_storage")}
    models = {
        "default": "stub",
        "catalogue": {"other": {"backend": "stub", "query_prefix": "another space: "}},
    }
    return make_settings(tmp_path, vector_store={"views": [view | more]}, models=models)


def place_of(tmp_path: Path, user: str = USER) -> Path:
    return tmp_path / "users" / user / "chroma_storage"


async def main_rows(fleet: Running, user: str = USER) -> dict[str, bytes]:
    """The vectors of a tenant in the main store, by chunk id."""
    found: dict[str, bytes] = {}
    for collection in await fleet.system.database.read(partial(collections.of_tenant, tenant=user)):
        async for ids, vectors in fleet.system.store.scan(collection):
            found |= {row_id: vector.tobytes() for row_id, vector in zip(ids, vectors, strict=True)}
    return found


async def erased(fleet: Running, receipt_id: str) -> Receipt:
    """The receipt, when it is finished."""
    jobs = fleet.jobs.of(USER)

    async def finished() -> bool:
        return (await jobs.receipt(receipt_id)).finished_at is not None

    await until(finished, fleet.system.database)
    return await jobs.receipt(receipt_id)


async def test_the_reader_finds_a_document_with_its_own_names_and_filters(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    async with running(settings) as fleet:
        about = {"author": "Melville", "media_type": "book"}
        await fleet.ingest("12", WHALES, user_id=USER, title="Moby", chunking_config=ONE_EACH, metadata=about)
        await fleet.ingest("13", "Another text of the same user.", user_id=USER)
        await fleet.ingest("12", "What another user has.", user_id="8")
        await in_step(fleet)
        vectors = await main_rows(fleet)
    with open_client(place_of(tmp_path)) as client:
        reader = TldwReader(client, USER)
        rows = reader.rows()
        assert sorted(rows) == [*(f"media_12_chunk_{n}" for n in range(3)), "media_13_chunk_0"]
        assert {row.metadata["embedfleet_chunk"]: row.vector.tobytes() for row in rows.values()} == vectors
        [best, *_] = reader.search(rows["media_12_chunk_1"].vector, media_ids=["12", "13"])
        assert best.id == "12"
        assert best.score == pytest.approx(1.0, abs=1e-5)
        assert best.content == WHALES.split("\n\n")[1]
        assert best.metadata | about == best.metadata
        assert best.metadata["title"] == "Moby"
        at = slice(best.metadata["start_char"], best.metadata["end_char"])
        assert WHALES[at] == best.content
        assert {one.id for one in reader.search(rows["media_12_chunk_1"].vector)} == {"12", "13"}
        books = reader.search(rows["media_12_chunk_1"].vector, where={"media_type": "book"})
        assert {one.id for one in books} == {"12"}
        assert reader.query_model(["12"]) == "local_api:stub"
    with open_client(place_of(tmp_path, "8")) as client:
        assert list(TldwReader(client, "8").rows()) == ["media_12_chunk_0"]

    with open_client(place_of(tmp_path)) as client:
        TldwReader(client, USER).collection.delete(ids=["media_12_chunk_0"])
        held_up = await verify_store(settings, EveryTenant())
        assert held_up.left == 1
        assert "is open in process" in str(held_up.views[0][0].problem)
    [check] = [one for one in checks_of(settings) if one.name == "views"]
    assert await asyncio.to_thread(check.examine, settings) == "rag: in step"
    repaired = await verify_store(settings, EveryTenant(), repair=True)
    assert [(found.missing, mended) for found, mended in repaired.views] == [
        (["media_12_chunk_0"], 1),
        ([], 0),
    ]
    assert (repaired.left, (await rebuild_store(settings, EveryTenant())).left) == (0, 0)
    with open_client(place_of(tmp_path)) as client:
        assert {row_id: row.text for row_id, row in TldwReader(client, USER).rows().items()} == {
            row_id: row.text for row_id, row in rows.items()
        }


async def test_a_view_follows_new_versions_metadata_and_deletions_and_leaves_other_rows_alone(
    tmp_path: Path,
) -> None:
    place = place_of(tmp_path)
    with open_client(place) as client:  # what the old path left: a document that moves, one that does not
        write_as_tldw(client, USER, "12", ["old"] * 7, STUB_DIM)
        write_as_tldw(client, USER, "99", ["not moved"], STUB_DIM)
        claims = client.get_or_create_collection("claims_for_7")
        claims.upsert(ids=["12_chunk_0"], embeddings=[[1.0] * 3], metadatas=[{"media_id": "12"}])

    def rows() -> dict[str, StoredRow]:
        with open_client(place) as client:
            assert client.get_collection("claims_for_7").count() == 1
            held = TldwReader(client, USER).rows()
        assert held.pop("media_99_chunk_0").text == "not moved"
        return held

    async with running(settings_of(tmp_path)) as fleet:
        jobs = fleet.jobs.of(USER)
        await fleet.ingest("12", WHALES, user_id=USER, chunking_config=ONE_EACH)
        await in_step(fleet)
        assert rows().keys() == {f"media_12_chunk_{n}" for n in range(3)}

        await jobs.set_metadata(media_id="12", patch={"author": "Melville"})
        await in_step(fleet)
        assert {row.metadata["author"] for row in rows().values()} == {"Melville"}

        await fleet.ingest("12", paragraphs("whale", 1), user_id=USER, chunking_config=ONE_EACH)
        await fleet.ingest("13", "The only text.", user_id=USER)
        for model in ("stub", "other"):  # vectors of another model are not mixed in, so it leaves the view
            await fleet.ingest("14", "A text by two models.", user_id=USER, model=model)
            await in_step(fleet)
            assert ("media_14_chunk_0" in rows()) == (model == "stub")
        assert rows().keys() == {"media_12_chunk_0", "media_13_chunk_0"}

        # The reader is here, so the view must wait, and so must the receipts. The old path takes one document
        # back: it writes the same id, even the same text.
        with open_client(place) as client:
            receipts = [await jobs.delete_document(media_id=media_id) for media_id in ("12", "13")]
            write_as_tldw(client, USER, "13", ["The only text."], STUB_DIM)
            await until(partial(waiting, fleet, 2), fleet.system.database)
            assert [(await jobs.receipt(one)).finished_at for one in receipts if one] == [None, None]
        for one in receipts:
            assert one is not None
            receipt = await erased(fleet, one)
            assert receipt.left is not None
            assert receipt.left["view:rag"] == 0
        assert rows().keys() == {"media_13_chunk_0"}


async def waiting(fleet: Running, documents: int) -> bool:
    return (await fleet.system.database.read(views.lags))["rag"].documents == documents
