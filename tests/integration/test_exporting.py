"""An export has every document that readers see, as SQL and the vector store have it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from embedfleet.account import Account
from embedfleet.adoption import exporting
from embedfleet.adoption.export_folder import Manifest, export
from embedfleet.adoption.parquet_files import ParquetFolder
from embedfleet.bootstrap import open_owner
from embedfleet.clock import SystemClock
from embedfleet.errors import (
    ConfigError,
    InvalidRequest,
    Remedy,
    Transient,
    UnknownTenant,
    VectorStoreUnavailable,
)
from embedfleet.metrics import Metrics
from embedfleet.places import Places
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import collections, live_versions
from embedfleet.records.scope import EveryTenant, OneTenant, Scope
from embedfleet.settings import Settings
from embedfleet.vectors.metered import MeteredVectorStore
from embedfleet.vectors.port import CollectionKey, VectorRows, VectorStore
from integration.test_dead_chunks import PoisonableCatalogue, poisoned
from support.databases import on_both_databases
from support.system import ONE_EACH, TENANT, Running, paragraphs, running

Rows = list[dict[str, Any]]


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of more than four chunks are read and written in parts."""
    monkeypatch.setattr(exporting, "_CHUNKS_PER_BATCH", 4)
    monkeypatch.setattr(exporting, "_CHARS_PER_BATCH", 1_500)


class WatchedStore(MeteredVectorStore):
    """Lets a test do something before vectors are read."""

    def __init__(self, store: VectorStore, before_reading: Callable[[], Awaitable[object]]) -> None:
        super().__init__(store, Metrics().store_seconds)
        self._before_reading = before_reading

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        await self._before_reading()
        return await super().vectors(collection, ids)


async def exported(
    fleet: Running, target: Path, scope: Scope | None = None, store: VectorStore | None = None
) -> Manifest:
    held = store or fleet.system.store
    return await export(fleet.system.database, held, target, scope or EveryTenant(), SystemClock())


def rows_of(folder: Path, kind: str) -> Rows:
    found: Rows = pq.read_table(folder / kind).to_pylist()
    return found


def texts_of(folder: Path) -> dict[tuple[str, str], str]:
    """The whole texts of an export, put together out of their pieces, by tenant and document."""
    whole: dict[tuple[str, str], str] = {}
    for row in rows_of(folder, "documents"):
        name = row["tenant"], row["media_id"]
        assert row["start"] == len(whole.get(name, ""))
        whole[name] = whole.get(name, "") + row["text"]
    return whole


async def what_readers_see(fleet: Running, tenant: str) -> tuple[Rows, dict[tuple[str, str], str]]:
    """Every passage and every text of the tenant, as its readers get them; vectors out of the store."""
    passages: Rows = []
    texts: dict[tuple[str, str], str] = {}
    door = fleet.jobs.of(tenant)
    for document in await door.list_documents(limit=100):
        if document.state != "live":
            continue
        texts[tenant, document.media_id] = (await door.read_text(media_id=document.media_id)).text or ""
        seen = await door.list_chunks(media_id=document.media_id, limit=1000, with_text=True)
        ids, vectors = await fleet.system.store.vectors(
            seen.collection, [one.chunk_id for one in seen.chunks]
        )
        vector_of = {chunk_id: vector.tolist() for chunk_id, vector in zip(ids, vectors, strict=True)}
        passages += [
            one.model_dump(exclude={"unknown_tokens"})
            | {
                "tenant": tenant,
                "media_id": document.media_id,
                "version": document.generation,
                "source": document.source,
                "title": document.title,
                "metadata": document.metadata,
                "model": document.model,
                "space": seen.collection.space,
                "vector": vector_of.get(one.chunk_id),
            }
            for one in seen.chunks
        ]
    return passages, texts


def comparable(rows: Rows) -> list[tuple[str, str, str, list[float]]]:
    return sorted((row["media_id"], row["chunk_id"], row["text"], row["vector"]) for row in rows)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def modes_in(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*")}


async def fill(fleet: Running) -> None:
    """Documents of two tenants: of one part and of several, with all that a document may have."""
    ingest = partial(fleet.ingest, chunking_config=ONE_EACH)
    await ingest("1", paragraphs("short", 2), metadata={"year": 2026, "tags": ["a", "b"]}, source="a.txt")
    await ingest("2", f"# Pumps\n\n{paragraphs('long', 11)}", content_type="markdown", title="Manual")
    await ingest("3", paragraphs("paged", 3), places=Places(pages=((0, 7), (300, 8)), cues=((0, 1.5, 9.0),)))
    await ingest("4", paragraphs("before", 6))
    await ingest("4", paragraphs("after", 3), source_hash="ab" * 32)
    await ingest("5", paragraphs("gone", 2))
    await fleet.jobs.of(TENANT).delete_document(media_id="5")
    await ingest("1", paragraphs("Привет, мир", 5), user_id="bob")
    await fleet.settled()


@on_both_databases
@pytest.mark.usefixtures("short_parts")
async def test_an_export_is_what_readers_see(settings: Settings, tmp_path: Path) -> None:
    async with running(settings, catalogue=PoisonableCatalogue(settings.models)) as fleet:
        await fill(fleet)
        one_dead = await fleet.ingest("6", poisoned("dead", 6, bad=[2]), chunking_config=ONE_EACH)
        assert one_dead.status is JobStatus.COMPLETED_WITH_ERRORS
        assert (await fleet.ingest("7", poisoned("all", 1, bad=[0]))).status is JobStatus.FAILED
        manifest = await exported(fleet, tmp_path / "all")
        await exported(fleet, tmp_path / "bob", OneTenant("bob"))
        seen = [await what_readers_see(fleet, tenant) for tenant in (TENANT, "bob")]

    expected = [row for passages, _ in seen for row in passages]
    assert len(expected) == 2 + 11 + 3 + 3 + 6 + 5
    found = rows_of(tmp_path / "all", "passages")
    for row in found:
        row["metadata"] = json.loads(row["metadata"])
    by_place = sorted(expected, key=lambda row: (row["tenant"], row["media_id"], row["chunk_index"]))
    assert found == by_place
    assert texts_of(tmp_path / "all") == seen[0][1] | seen[1][1]

    assert (manifest.documents, manifest.passages) == (6, len(expected))
    assert (manifest.passages_without_vector, manifest.documents_left_out) == (1, 1)
    assert sum(one.vectors for one in manifest.collections) == len(expected) - 1
    written = (tmp_path / "all" / "manifest.json").read_text()
    assert Manifest.model_validate_json(written) == manifest
    assert manifest.folders["passages"].rows == len(expected)

    assert {row["tenant"] for row in rows_of(tmp_path / "bob", "passages")} == {"bob"}
    assert texts_of(tmp_path / "bob") == seen[1][1]


async def test_every_field_of_a_document_is_in_its_rows(settings: Settings, tmp_path: Path) -> None:
    account = Account(found=(("pages", 2),))
    async with running(settings) as fleet:
        await fleet.ingest("1", paragraphs("text", 2), account=account, title="Manual", source_hash="ab" * 32)
        await exported(fleet, tmp_path / "out")
    (row,) = rows_of(tmp_path / "out", "documents")
    assert row["source_hash"] == "ab" * 32
    assert row["title"] == "Manual"
    assert Account.of_json(row["account"]) == account
    assert json.loads(row["chunking"])["chunk_size"] == settings.chunking.chunk_size
    assert (row["content_type"], row["chars"], row["start"]) == ("text", len(row["text"]), 0)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("count", [3, 11], ids=["in one part", "in several"])
async def test_a_document_that_is_replaced_while_it_is_read_is_exported_whole(
    settings: Settings, tmp_path: Path, count: int
) -> None:
    """The version that was read is retired and its vectors are deleted: before they are read if it is short,
    and after its first part is written if it is long."""
    looks = 0
    async with running(settings) as fleet:
        await fleet.ingest("0", paragraphs("other", 2), chunking_config=ONE_EACH)
        await fleet.ingest("1", paragraphs("before", count), chunking_config=ONE_EACH)
        await fleet.ingest("2", paragraphs("deleted", count), chunking_config=ONE_EACH)

        async def replace() -> None:
            nonlocal looks
            looks += 1
            if looks == (3 if count > 4 else 2):
                await fleet.ingest("1", paragraphs("after", count + 1), chunking_config=ONE_EACH)
                await fleet.jobs.of(TENANT).delete_document(media_id="2")
                await fleet.settled()

        await exported(fleet, tmp_path / "out", store=WatchedStore(fleet.system.store, replace))
        expected = await what_readers_see(fleet, TENANT)
    assert looks > 2, "it was not read again"
    assert comparable(rows_of(tmp_path / "out", "passages")) == comparable(expected[0])
    assert texts_of(tmp_path / "out") == expected[1]


async def test_a_document_that_is_replaced_at_every_look_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is deleted at the last look is left out."""
    monkeypatch.setattr(exporting, "_MOST_ATTEMPTS", 2)
    looks = 0
    async with running(settings) as fleet:
        await fleet.ingest("1", paragraphs("version 0", 2))

        async def replace() -> None:
            nonlocal looks
            looks += 1
            await fleet.ingest("1", paragraphs(f"version {looks}", 2))

        async def replace_and_delete() -> None:
            await replace()
            if looks == 4:
                await fleet.jobs.of(TENANT).delete_document(media_id="1")
                await fleet.settled()

        with pytest.raises(Transient, match="document `1` of tenant `alice` is replaced faster"):
            await exported(fleet, tmp_path / "out", store=WatchedStore(fleet.system.store, replace))
        await exported(fleet, tmp_path / "out", store=WatchedStore(fleet.system.store, replace_and_delete))
    assert looks == 4
    assert rows_of(tmp_path / "out", "passages") == []


async def test_a_document_that_is_deleted_is_not_exported_though_its_rows_are_still_there(
    settings: Settings,
) -> None:
    async with running(settings) as fleet:
        await fleet.ingest("1", paragraphs("text", 2))
    async with open_owner(settings, purpose="test") as system:  # no worker runs, so no rows go
        versions = await system.database.read(partial(live_versions.page, tenant=TENANT, after="", limit=9))
        wanted = [part for version in versions for part in exporting.parts_of(version)]
        (read,) = await system.database.read(partial(live_versions.contents, wanted=wanted))
        assert read is not None
        await system.jobs.of(TENANT).delete_document(media_id="1")
        assert await system.database.read(partial(live_versions.contents, wanted=wanted)) == [None]


async def test_a_damaged_store_is_not_exported(settings: Settings, tmp_path: Path) -> None:
    """A vector that is missing, or is another one than was stored, is no vector to give back."""
    async with running(settings) as fleet:
        await fleet.ingest("1", paragraphs("text", 3), chunking_config=ONE_EACH)
        store = fleet.system.store
        (collection,) = await fleet.system.database.read(partial(collections.within, scope=EveryTenant()))
        ids = [row_id async for page, _ in store.scan(collection) for row_id in page]
        other = np.random.default_rng(7).standard_normal((1, collection.dim)).astype(np.float32)
        await store.upsert(collection, VectorRows(ids[:1], other, [{"chunk_id": ids[0]}], None))
        with pytest.raises(VectorStoreUnavailable, match=f"1 of the vectors .* {ids[0]}") as wrong:
            await exported(fleet, tmp_path / "out")
        assert wrong.value.remedy is Remedy.REBUILD_VECTORS
        await store.delete(collection, ids[:2])
        with pytest.raises(VectorStoreUnavailable, match="2 of the vectors"):
            await exported(fleet, tmp_path / "out")
    assert names_in(tmp_path) == ["data"], "an export that failed left something"


async def test_the_folder_appears_whole_or_not_at_all(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, empty, out = tmp_path / "full", tmp_path / "empty", tmp_path / "out"
    full.mkdir()
    empty.mkdir()
    (full / "mine.txt").touch()
    async with running(settings) as fleet:
        await exported(fleet, empty)  # there is nothing yet: the files have no rows, and can be read
        assert rows_of(empty, "passages") == rows_of(empty, "documents") == []
        await fleet.ingest("1", paragraphs("text", 2))
        for target, reason in ((full, "no empty folder"), (tmp_path / "no" / "out", "no is no folder")):
            with pytest.raises(InvalidRequest, match=reason):
                await exported(fleet, target)
        with pytest.raises(UnknownTenant, match="tenant `eve` has no documents"):
            await exported(fleet, out, OneTenant("eve"))

        def refuse(folder: ParquetFolder) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(ParquetFolder, "close", refuse)
            with pytest.raises(ConfigError, match=r"out: cannot write it \(No space left on device\)"):
                await exported(fleet, out)
        assert names_in(tmp_path) == ["data", "empty", "full"]
        await exported(fleet, out)
    assert modes_in(out) == {0o600, 0o700}
