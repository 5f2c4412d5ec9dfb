"""`embedfleet adopt` from sources that are not Chroma, and `export` of what came out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.command import Command
from support.databases import PostgresDatabases
from support.foreign_lancedb import write_lance
from support.foreign_pgvector import write_tables
from support.tldw_rows import Medium, media_collection, rows_of

PARAGRAPHS = [f"Paragraph {number} is about subject {number * 7}." for number in range(9)]
ROWS = rows_of([Medium(1, PARAGRAPHS[:5]), Medium(2, PARAGRAPHS[5:])])


@pytest.fixture(params=["lancedb", "pgvector"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The option that names the source, and where it is."""
    collection = media_collection("7", ROWS)
    if request.param == "lancedb":
        write_lance(tmp_path / "lance", [collection])
        return "--lancedb", str(tmp_path / "lance")
    url: str = request.getfixturevalue("empty_postgres_url")
    write_tables(url, [collection])
    return "--pgvector", url


@pytest.fixture
def empty_postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    with postgres_databases.empty() as url:
        yield url


def test_what_is_adopted_is_exported_with_the_same_texts_and_vectors(
    tmp_path: Path, source: tuple[str, str]
) -> None:
    command = Command(tmp_path)
    adopted = command.typed("adopt", *source, "--layout", "tldw", "--model", "stub", "--json")
    assert adopted.code == 0, (adopted.stdout, adopted.stderr)
    assert command.typed("export", "--output", "out").code == 0
    found = pq.read_table(tmp_path / "out" / "passages").to_pydict()
    assert dict(zip(found["text"], found["media_id"], strict=True)) == {
        text: "1" if place < 5 else "2" for place, text in enumerate(PARAGRAPHS)
    }
    theirs = dict(zip(PARAGRAPHS, ROWS.vectors, strict=True))
    for text, vector in zip(found["text"], found["vector"], strict=True):
        unit = theirs[text] / np.linalg.norm(theirs[text])
        assert np.abs(np.array(vector, np.float32) - unit).max() < 1e-6
