"""Tables that another system left in a directory of LanceDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from support.foreign_chroma import ForeignCollection


def write_lance(directory: Path, collections: Sequence[ForeignCollection]) -> None:
    """Write a table for each collection: an id, a vector, a text, and an object of metadata."""
    import lancedb  # takes seconds, in each process that collects the tests

    database = lancedb.connect(directory)
    for one in collections:
        database.create_table(one.name, _table(one))


def _table(collection: ForeignCollection) -> Any:
    rows = collection.rows
    dim = rows.vectors.shape[1] or 3
    texts = pa.nulls(len(rows.ids), pa.string()) if rows.texts is None else pa.array(rows.texts, pa.string())
    keys = sorted({key for one in rows.metadatas if one for key in one}) or ["unused"]
    metadatas = [{key: (one or {}).get(key) for key in keys} for one in rows.metadatas]
    kinds = pa.infer_type(metadatas) if metadatas else pa.struct([("unused", pa.string())])
    return pa.table(
        {
            "id": pa.array(rows.ids, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.ravel(), pa.float32()), dim),
            "text": texts,
            "metadata": pa.array(metadatas, kinds),
        }
    )
