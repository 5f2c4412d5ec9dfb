"""Tables of LanceDB as other systems make them: their ids, their columns, their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.index import IvfFlat

from embedfleet.errors import ConfigError
from embedfleet.vectors.registry import source_kind
from support.foreign_chroma import bytes_of

ROWS = 300
VECTORS = np.random.default_rng(3).standard_normal((ROWS, 4), dtype=np.float32)


def vectors_of(values: Any) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Indexed` has an index and lost a row; `twins` has two columns of vectors, and equal ids."""
    directory = tmp_path_factory.mktemp("lance")
    database = lancedb.connect(directory)
    ids = pa.array(range(ROWS), pa.int64())
    indexed = database.create_table(
        "Indexed", pa.table({"id": ids, "Vec": vectors_of(VECTORS), "content": ids.cast(pa.string())})
    )
    indexed.create_index("Vec", config=IvfFlat(distance_type="dot", num_partitions=1))
    indexed.delete("id = 7")
    database.create_table(
        "twins",
        pa.table(
            {
                "id": ["same", "same", "none"],
                "small": vectors_of(np.arange(6, dtype=np.float16).reshape(3, 2)),
                "large": pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], None], pa.list_(pa.float32(), 3)),
                "meta": [{"source": "a.txt", "page": 1}, {"source": "b.txt", "page": None}, None],
                "note": ["x", None, "z"],
            }
        ),
    )
    database.create_table("no_vectors", pa.table({"id": [1]}))
    return directory


async def test_what_it_has_is_read_without_writing_a_byte(directory: Path, tmp_path: Path) -> None:
    before = bytes_of(directory)
    source = await source_kind("lancedb").open_source(str(directory), scratch=tmp_path)
    found = {one.name: (one.rows, one.distance) for one in await source.collections()}
    assert found == {"Indexed": (ROWS - 1, "ip"), "twins.large": (2, ""), "twins.small": (3, "")}

    pages = [page async for page in source.labels("Indexed", page=128)]
    ids = [row_id for page in pages for row_id in page.ids]
    assert ids == [str(n) for n in range(ROWS) if n != 7]
    assert max(len(page.ids) for page in pages) <= 128
    rows = await source.rows("Indexed", ["299", "0", "7", "0"])
    assert sorted(rows.ids) == ["0", "299"]
    assert {
        row_id: (vector.tobytes(), text)
        for row_id, vector, text in zip(rows.ids, rows.vectors, rows.texts, strict=True)
    } == {str(n): (VECTORS[n].tobytes(), str(n)) for n in (0, 299)}

    (labels,) = [page async for page in source.labels("twins.large")]
    assert list(labels.metadatas) == [
        {"source": "a.txt", "page": 1, "id": "same", "note": "x"},
        {"source": "b.txt", "id": "same"},
    ]
    assert len(set(labels.ids)) == 2, "an id that is not unique tells no row apart"
    small = await source.rows("twins.small", [(await anext(source.labels("twins.small"))).ids[2]])
    assert small.vectors.dtype == np.float32
    assert (small.vectors.tolist(), small.texts) == ([[4, 5]], [None])
    await source.close()
    assert bytes_of(directory) == before


async def test_a_table_is_read_as_it_was_when_it_was_opened(directory: Path, tmp_path: Path) -> None:
    database = lancedb.connect(directory)
    written = database.create_table("written", pa.table({"id": ["a", "b"], "v": vectors_of(VECTORS[:2])}))
    source = await source_kind("lancedb").open_source(str(directory), scratch=tmp_path)
    written.add(pa.table({"id": ["c"], "v": vectors_of(VECTORS[2:3])}))
    written.delete("id = 'a'")
    assert [page.ids async for page in source.labels("written")] == [["a", "b"]]
    assert (await source.rows("written", ["a", "c"])).ids == ["a"]
    await source.close()
    database.drop_table("written")


async def test_a_directory_without_vectors_is_refused_and_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match="missing is no directory of LanceDB"):
        await source_kind("lancedb").open_source(str(missing), scratch=tmp_path)
    assert not missing.exists()
    lancedb.connect(tmp_path / "plain").create_table("plain", pa.table({"id": [1]}))
    with pytest.raises(ConfigError, match="no table with vectors"):
        await source_kind("lancedb").open_source(str(tmp_path / "plain"), scratch=tmp_path)
