"""What every source of collections promises: it reads all of another system's rows, and changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedfleet.errors import ConfigError, VectorStoreUnavailable
from embedfleet.vectors.chroma.source import _lock_of
from embedfleet.vectors.registry import SOURCES, source_kind
from embedfleet.vectors.source import Source
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.foreign_chroma import ForeignCollection, ForeignRows, bytes_of, write_directory, written_server
from support.foreign_lancedb import write_lance
from support.foreign_pgvector import write_tables

ROWS = ForeignRows(
    [f"1_chunk_{i}" for i in range(7)],
    np.random.default_rng(0).standard_normal((7, 4), dtype=np.float32) * 3,
    [{"media_id": "1", "chunk_index": i} for i in range(7)],
    [f"text {i}" for i in range(7)],
)
WITHOUT_TEXTS = ForeignRows(["a"], np.ones((1, 3), dtype=np.float32), [None], None)
NOTHING = ForeignRows([], np.empty((0, 0), dtype=np.float32), [], None)
COLLECTIONS = [
    ForeignCollection("books", ROWS, metadata={"source_model_id": "minilm"}),
    ForeignCollection("plain", WITHOUT_TEXTS, distance="cosine"),
    ForeignCollection("void", NOTHING),
]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a source is."""

    kind: str
    place: str


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("foreign") / "chroma_storage"
    write_directory(directory, COLLECTIONS)
    return directory


@pytest.fixture(scope="module")
def lance_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("lance")
    write_lance(directory, COLLECTIONS)
    return str(directory)


@pytest.fixture(params=["chroma directory", "chroma server", "lancedb", "pgvector"])
def place(request: pytest.FixtureRequest, directory: Path) -> Iterator[_Place]:
    if request.param == "lancedb":
        yield _Place("lancedb", request.getfixturevalue("lance_directory"))
        return
    if request.param == "pgvector":
        databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
        with databases.empty() as url:
            write_tables(url, COLLECTIONS)
            yield _Place("pgvector", url)
        return
    if request.param == "chroma directory":
        yield _Place("chroma", str(directory))
        return
    server: ChromaServer = request.getfixturevalue("chroma_server")
    with written_server(server.url, COLLECTIONS):
        yield _Place("chroma", server.url)


@pytest.fixture
async def source(place: _Place, tmp_path: Path) -> AsyncIterator[Source]:
    source = await source_kind(place.kind).open_source(place.place, scratch=tmp_path)
    yield source
    await source.close()


async def test_it_names_its_collections_with_their_sizes(
    place: _Place, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their list comes in pages, too.
    monkeypatch.setattr("embedfleet.vectors.chroma.source._COLLECTIONS_AT_ONCE", 2)
    mine = {one.name: one for one in await source.collections() if one.name in {"books", "plain", "void"}}
    assert list(mine) == ["books", "plain", "void"]
    assert [one.rows for one in mine.values()] == [7, 1, 0]
    if place.kind == "lancedb":  # a table without an index says neither, and notes nothing
        assert {one.distance for one in mine.values()} == {""}
        return
    assert [one.distance for one in mine.values()] == ["l2", "cosine", "l2"]
    assert "minilm" in mine["books"].metadata.values()


async def test_every_row_is_labelled_once_in_pages(source: Source) -> None:
    pages = [page async for page in source.labels("books", page=3)]
    assert [len(page.ids) for page in pages] == [3, 3, 1]
    labels = {row: dict(label) for page in pages for row, label in zip(page.ids, page.metadatas, strict=True)}
    assert labels == dict(zip(ROWS.ids, map(dict, filter(None, ROWS.metadatas)), strict=True))
    assert [page async for page in source.labels("void")] == []


async def test_rows_have_the_bits_that_were_written(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    # A long list of ids is asked for in parts.
    monkeypatch.setattr("embedfleet.vectors.chroma.source._ROWS_AT_ONCE", 2)
    wanted = [*ROWS.ids[2:5], "not there"]
    found = await source.rows("books", wanted)
    at = {row: place for place, row in enumerate(found.ids)}
    assert sorted(at) == sorted(ROWS.ids[2:5])
    for place in range(2, 5):
        mine = at[ROWS.ids[place]]
        assert found.vectors[mine].tobytes() == ROWS.vectors[place].tobytes()
        assert found.texts[mine] == f"text {place}"
        assert found.metadatas[mine]["chunk_index"] == place


async def test_a_row_may_have_neither_text_nor_metadata(source: Source) -> None:
    found = await source.rows("plain", ["a"])
    assert (found.texts, found.metadatas) == ([None], [{}])


async def test_reading_changes_no_byte_and_leaves_nothing_behind(directory: Path, tmp_path: Path) -> None:
    before = bytes_of(directory)
    source = await source_kind("chroma").open_source(str(directory), scratch=tmp_path)
    assert [page async for page in source.labels("books")]
    assert bytes_of(directory) == before
    await source.close()
    assert bytes_of(directory) == before
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("kind", SOURCES)
async def test_what_is_no_source_is_refused_by_name_and_leaves_nothing_behind(
    kind: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    scratch = tmp_path / "scratch"
    wrong.mkdir()
    scratch.mkdir()
    with pytest.raises(ConfigError, match=str(wrong)):
        await source_kind(kind).open_source(str(wrong), scratch=scratch)
    assert names_in(scratch) == []


async def test_a_closed_source_says_so(source: Source) -> None:
    await source.close()
    with pytest.raises(VectorStoreUnavailable):
        await source.rows("books", ["a"])


async def test_a_directory_that_is_written_during_the_copy_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = shutil.copytree
    late = directory / "late"

    def copytree(*args: Any, **named: Any) -> object:
        late.write_bytes(b"written by the system that still runs")
        return copied(*args, **named)

    monkeypatch.setattr(shutil, "copytree", copytree)
    try:
        with pytest.raises(VectorStoreUnavailable, match="stop the system"):
            await source_kind("chroma").open_source(str(directory), scratch=tmp_path)
    finally:
        late.unlink()
    assert names_in(tmp_path) == []


async def test_the_copy_of_a_process_that_was_killed_is_removed_by_the_next_one(
    directory: Path, tmp_path: Path
) -> None:
    left = tmp_path / "source-killed"
    left.mkdir()
    (left / "chroma.sqlite3").write_bytes(b"")
    _lock_of(left).touch()
    open_source = source_kind("chroma").open_source
    first = await open_source(str(directory), scratch=tmp_path)
    assert "source-killed" not in names_in(tmp_path)
    assert "source-killed.lock" not in names_in(tmp_path)
    # A copy that is in use stays.
    second = await open_source(str(directory), scratch=tmp_path)
    assert (await first.rows("plain", ["a"])).ids == ["a"]
    await first.close()
    await second.close()
    assert names_in(tmp_path) == []
