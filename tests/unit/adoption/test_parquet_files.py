"""Parquet files that are written piece by piece, and versions that are split to fit into memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedfleet.adoption import exporting, parquet_files
from embedfleet.adoption.exporting import batches, parts_of
from embedfleet.adoption.parquet_files import DOCUMENTS, PASSAGES, ParquetFolder, vector_column
from embedfleet.records.live_versions import LiveVersion

SCHEMA = pa.schema([("tenant", pa.string()), ("number", pa.int64())])


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group has two calls of `add`, a file has two row groups."""
    monkeypatch.setattr(parquet_files, "_BYTES_PER_GROUP", 200)
    monkeypatch.setattr(parquet_files, "_BYTES_PER_FILE", 400)


def add(folder: ParquetFolder, *numbers: int) -> None:
    for first in numbers:
        folder.add({"tenant": ["alice"] * 10, "number": list(range(first, first + 10))})


def numbers_in(folder: Path) -> list[int]:
    found: list[int] = pq.read_table(folder)["number"].to_pylist()
    return found


@pytest.mark.usefixtures("small_files")
def test_rows_are_split_into_files_and_groups_and_keep_their_order(tmp_path: Path) -> None:
    folder = ParquetFolder(tmp_path / "rows", SCHEMA)
    add(folder, *range(0, 90, 10))
    written = folder.close()
    assert written.rows == 90
    assert written.files == sorted(path.name for path in (tmp_path / "rows").iterdir())
    assert len(written.files) == 3
    assert pq.ParquetFile(tmp_path / "rows" / written.files[0]).num_row_groups == 2
    assert numbers_in(tmp_path / "rows") == list(range(90))


@pytest.mark.usefixtures("small_files")
def test_rows_after_a_mark_can_be_dropped_though_they_fill_several_files(tmp_path: Path) -> None:
    folder = ParquetFolder(tmp_path / "rows", SCHEMA)
    add(folder, 0)
    mark = folder.mark()
    add(folder, *range(10, 200, 10))
    folder.drop_since(mark)
    folder.add({"tenant": [], "number": []})
    assert folder.mark() == mark, "a file without rows"
    add(folder, 500)
    assert folder.close().rows == 20
    assert numbers_in(tmp_path / "rows") == [*range(10), *range(500, 510)]


def test_no_more_than_some_row_groups_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = 2**20
    monkeypatch.setattr(parquet_files, "_BYTES_PER_GROUP", group)
    folder = ParquetFolder(tmp_path / "rows", SCHEMA)
    before, most = pa.total_allocated_bytes(), 0
    for first in range(0, 2_000_000, 20_000):
        folder.add({"tenant": ["alice"] * 20_000, "number": list(range(first, first + 20_000))})
        most = max(most, pa.total_allocated_bytes() - before)
    assert folder.close().rows == 2_000_000
    assert most < 4 * group


def test_vectors_keep_their_bits_and_may_be_missing_or_of_another_dimension() -> None:
    odd = np.array([np.float32(0.1), np.nextafter(np.float32(1), np.float32(2)), -0.0], np.float32)
    column = vector_column([odd, None, odd[:2]])
    assert column.null_count == 1
    assert np.asarray(column[0].values).tobytes() == odd.tobytes()
    assert column[1].as_py() is None
    assert np.asarray(column[2].values).tobytes() == odd[:2].tobytes()
    assert vector_column([None]).to_pylist() == [None]
    assert vector_column([]).to_pylist() == []


def test_every_field_is_described() -> None:
    for schema in (PASSAGES, DOCUMENTS):
        assert all(field.metadata[b"description"] for field in schema)


def version(chunks: int, chars: int) -> LiveVersion:
    generation: Any = Mock()
    generation.recipe.chars = chars
    return LiveVersion(generation, chunks)


@pytest.mark.parametrize(
    ("chunks", "chars", "parts"),
    [
        (4, 10, [([(0, 10)], 0, 4)]),
        (5, 10, [([(0, 10)], 0, 0), ([], 0, 4), ([], 4, 5)]),
        (1, 11, [([(0, 10)], 0, 0), ([(10, 11)], 0, 0), ([], 0, 1)]),
    ],
    ids=["one part", "many chunks", "a long text"],
)
def test_a_version_is_split_by_chunks_and_by_text(
    monkeypatch: pytest.MonkeyPatch, chunks: int, chars: int, parts: list[Any]
) -> None:
    monkeypatch.setattr(exporting, "_CHUNKS_PER_BATCH", 4)
    monkeypatch.setattr(exporting, "_CHARS_PER_BATCH", 10)
    wanted = parts_of(version(chunks, chars))
    assert [(list(one.spans), one.first, one.past) for one in wanted] == parts


def test_a_version_of_several_parts_is_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_CHUNKS_PER_BATCH", 4)
    monkeypatch.setattr(exporting, "_CHARS_PER_BATCH", 10)
    sizes = [(2, 3), (2, 3), (1, 3), (9, 3), (1, 3), (1, 8), (1, 2), (0, 99)]
    found = [
        [(one.chunks, one.generation.recipe.chars) for one in batch]
        for batch in batches([version(*size) for size in sizes])
    ]
    assert found == [[(2, 3), (2, 3)], [(1, 3)], [(9, 3)], [(1, 3)], [(1, 8), (1, 2)], [(0, 99)]]


def test_without_pyarrow_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from embedfleet.errors import ConfigError\n"
        "try: import embedfleet.adoption.parquet_files\n"
        "except ConfigError as exc: print(exc)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "install the extra `parquet` of embedfleet" in done.stdout


def test_the_page_about_exports_lists_every_column() -> None:
    in_one = set(PASSAGES.names) ^ set(DOCUMENTS.names) | {"start", "text"}  # these two differ in meaning
    parts = (
        ("both", [field for field in PASSAGES if field.name not in in_one]),
        ("`passages`", [field for field in PASSAGES if field.name in in_one]),
        ("`documents`", [field for field in DOCUMENTS if field.name in in_one]),
    )
    lines = [
        f"| {where} | `{field.name}` | {field.type} | {field.metadata[b'description'].decode()} |"
        for where, fields in parts
        for field in fields
    ]
    page = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    assert [line for line in page.splitlines() if line.startswith(("| both |", "| `"))] == lines
