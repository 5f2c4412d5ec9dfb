"""Tables of pgvector as other systems make them: their keys, their columns, their dimensions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from embedfleet.errors import ConfigError, Permanent, VectorStoreUnavailable
from embedfleet.vectors.registry import source_kind
from embedfleet.vectors.source import Source
from support.databases import PostgresDatabases

# LangChain's table has vectors of any dimension. The others have no key, a key of two columns and a number.
TABLES = """
CREATE EXTENSION vector;
CREATE TABLE langchain_pg_embedding (
  id varchar PRIMARY KEY, collection_id uuid, embedding vector, document varchar, cmetadata jsonb
);
INSERT INTO langchain_pg_embedding VALUES
  ('a', gen_random_uuid(), '[1, 2]', 'text a', '{"source": "a.txt", "page": 3, "x": null}'),
  ('b', gen_random_uuid(), '[1, 2, 3]', 'text b', '{"source": "b.txt"}'),
  ('c', gen_random_uuid(), NULL, 'no vector', '{}');
UPDATE langchain_pg_embedding SET collection_id = '6f1c2b9e-0000-4000-8000-000000000001';
CREATE TABLE bare (v vector(2), note text);
INSERT INTO bare VALUES ('[5, 6]', 'x'), ('[7, 8]', NULL), (NULL, 'no vector');
CREATE SCHEMA shop;
CREATE TABLE shop.pages (
  book int, page int, content text, price numeric, seen timestamp, half halfvec(2), full_one vector(3),
  PRIMARY KEY (book, page)
);
INSERT INTO shop.pages VALUES (1, 7, 'page seven', 2.5, '2026-01-02', '[0.5, 0.25]', '[1, 2, 3]');
CREATE TABLE numbered (id bigint PRIMARY KEY, embedding vector(1), media_id int);
INSERT INTO numbered SELECT n, ARRAY[n]::real[]::vector, n / 10 FROM generate_series(1, 95) n;
CREATE TABLE parted (id int PRIMARY KEY, embedding vector(1)) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1, '[1]');
CREATE TABLE plain (id int PRIMARY KEY, words text);
"""


@pytest.fixture(scope="module")
def url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    with postgres_databases.empty() as url:
        with psycopg.connect(url) as connection:
            connection.execute(TABLES.encode())
        yield url


@pytest.fixture
async def source(url: str, tmp_path: Path) -> AsyncIterator[Source]:
    source = await source_kind("pgvector").open_source(url, scratch=tmp_path)
    yield source
    await source.close()


async def read(source: Source, collection: str) -> dict[str, tuple[list[float], str | None, Any]]:
    """Every row: its vector, its text, its metadata, which the labels have too."""
    found: dict[str, tuple[list[float], str | None, Any]] = {}
    async for page in source.labels(collection, page=40):
        rows = await source.rows(collection, page.ids)
        labels = dict(zip(page.ids, page.metadatas, strict=True))
        for row_id, vector, text, metadata in zip(
            rows.ids, rows.vectors.tolist(), rows.texts, rows.metadatas, strict=True
        ):
            assert labels.pop(row_id) == metadata
            found[row_id] = (vector, text, metadata)
        assert not labels
    return found


async def test_each_table_with_vectors_is_a_collection_and_each_dimension_too(source: Source) -> None:
    assert {one.name: one.rows for one in await source.collections()} == {
        "bare": 2,
        "langchain_pg_embedding[2]": 1,
        "langchain_pg_embedding[3]": 1,
        "numbered": 95,
        "parted": 1,
        "shop.pages.full_one": 1,
        "shop.pages.half": 1,
    }


async def test_columns_and_entries_of_json_are_metadata(source: Source) -> None:
    both = "6f1c2b9e-0000-4000-8000-000000000001"
    assert await read(source, "langchain_pg_embedding[2]") == {
        "a": ([1, 2], "text a", {"source": "a.txt", "page": 3, "collection_id": both})
    }
    assert await read(source, "langchain_pg_embedding[3]") == {
        "b": ([1, 2, 3], "text b", {"source": "b.txt", "collection_id": both})
    }
    of_page = {"book": 1, "page": 7, "price": 2.5, "seen": "2026-01-02 00:00:00"}
    assert await read(source, "shop.pages.half") == {"1/7": ([0.5, 0.25], "page seven", of_page)}
    assert await read(source, "shop.pages.full_one") == {"1/7": ([1, 2, 3], "page seven", of_page)}


async def test_rows_without_a_key_are_told_by_their_place(source: Source) -> None:
    assert sorted((await read(source, "bare")).values(), key=str) == [
        ([5, 6], None, {"note": "x"}),
        ([7, 8], None, {}),
    ]


async def test_a_table_is_read_in_pages_as_it_was_at_one_instant_and_cannot_be_written(
    url: str, source: Source
) -> None:
    def remove() -> None:
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM numbered WHERE id > 50")

    await source.rows("numbered", ["1"])
    remove()
    found = await read(source, "numbered")
    assert {row_id: vector for row_id, (vector, _, _) in found.items()} == {
        str(n): [n] for n in np.arange(1, 96).tolist()
    }
    assert found["27"][2] == {"media_id": 2}
    held: Any = source
    with pytest.raises(Permanent, match="read-only transaction"):
        await held.run(lambda: _raw(held).execute("DELETE FROM numbered"))


def _raw(source: Any) -> psycopg.Connection[Any]:
    connection: psycopg.Connection[Any] = source._connection
    return connection


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1:1/books", "PostgreSQL at 127.0.0.1/books cannot be read now"),
        ("postgresql://me:secret@[::1/books", "the URL of PostgreSQL cannot be read"),
        ("mysql://me:secret@host/books", "no URL of PostgreSQL"),
    ],
)
async def test_no_error_shows_the_password(place: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, VectorStoreUnavailable), match=reason) as failed:
        await source_kind("pgvector").open_source(place, scratch=tmp_path)
    assert "secret" not in str(failed.value)


async def test_a_database_without_vectors_is_refused(
    postgres_databases: PostgresDatabases, tmp_path: Path
) -> None:
    with postgres_databases.empty() as url:
        with pytest.raises(ConfigError, match="no extension `vector`"):
            await source_kind("pgvector").open_source(url, scratch=tmp_path)
        with psycopg.connect(url) as connection:
            connection.execute("CREATE EXTENSION vector")
        with pytest.raises(ConfigError, match="no table with a column of the type `vector`"):
            await source_kind("pgvector").open_source(url, scratch=tmp_path)
