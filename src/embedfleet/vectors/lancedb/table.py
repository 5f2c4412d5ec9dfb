"""One table of Lance: the rows of all tenants in one space. Its methods block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.paging import pages
from embedfleet.vectors.lancedb.layout import (
    collection_digest,
    key_digest,
    label_digest,
    metadata_arrays,
    table_schema,
    text_under,
    vectors_of,
)
from embedfleet.vectors.lancedb.tending import TendedTable
from embedfleet.vectors.lancedb.upkeep import partitions_searched
from embedfleet.vectors.port import Hit, Metadata

if TYPE_CHECKING:
    import pyarrow as pa
    from lance import LanceDataset

# Keys that one statement names. More take no less time a key, and a statement is parsed as a whole.
_KEYS_PER_STATEMENT = 5_000
# Lance tries a commit that lost again itself, up to this number of times.
_COMMIT_RETRIES = 20
_COMMIT_SECONDS = 60.0
# How long a count of a tenant's rows may decide how to search them.
_COUNT_SECONDS = 30.0
# A search takes this many candidates for each hit by rounded vectors, and compares their true ones.
_REFINE_FACTOR = 3
# Tenants whose count is kept, some 100 bytes each.
_MOST_COUNTS = 10_000


class LanceTable(TendedTable):
    """The table of a space: its rows are written, deleted, read and searched."""

    @cached_property
    def _counts(self) -> dict[str, tuple[float, int]]:
        """When the rows of a tenant were counted, and how many they were, by tenant."""
        return {}

    def merge(self, rows: pa.Table, *, insert: bool = True) -> None:
        """Write rows. One of a known key is replaced; without `insert`, any other is left out."""

        def merge(version: LanceDataset) -> None:
            # An index on the keys would be asked for each key, and beside it every row that is not in it is
            # read. To read all keys is quicker up to some million rows.
            writing = version.merge_insert("key").when_matched_update_all().use_index(False)
            if insert:
                writing = writing.when_not_matched_insert_all()
            writing = writing.conflict_retries(_COMMIT_RETRIES)
            writing.retry_timeout(timedelta(seconds=_COMMIT_SECONDS)).execute(rows)

        self._write(merge)

    def replace_metadata(self, tenant: str, metadatas: Mapping[str, Metadata]) -> None:
        """Replace the metadata of rows that exist, by id."""
        mine = collection_digest(tenant)
        by_key = {key_digest(mine, row_id): metadata for row_id, metadata in metadatas.items()}
        for part in pages(list(by_key), _KEYS_PER_STATEMENT):
            held = self._rows(part, ["key", "collection", "tenant", "id", "vector", "text"])
            if held is not None and len(held):
                new = metadata_arrays([by_key[key] for key in held["key"].to_pylist()])
                rows = held.append_column("metadata", new[0]).append_column("labels", new[1])
                self.merge(rows.cast(table_schema(held.schema.field("vector").type.list_size)), insert=False)

    def delete(self, tenant: str, ids: Sequence[str]) -> None:
        """Remove rows. A missing one is ignored."""
        for part in pages(_keys(tenant, ids), _KEYS_PER_STATEMENT):
            self._delete(_one_of("key", part))

    def delete_all(self, tenant: str) -> None:
        """Remove all rows of the tenant."""
        self._delete(_of(tenant))

    def _delete(self, which: str) -> None:
        def delete(version: LanceDataset) -> None:
            version.delete(
                which, conflict_retries=_COMMIT_RETRIES, retry_timeout=timedelta(seconds=_COMMIT_SECONDS)
            )

        self._write(delete)

    # --- reading ---

    def texts(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the texts of the rows of these keys that have one, by key."""
        found: dict[str, str] = {}
        for part in pages(keys, _KEYS_PER_STATEMENT):
            rows = self._rows(part, ["key", "text"])
            if rows is not None:
                pairs = zip(rows["key"].to_pylist(), rows["text"].to_pylist(), strict=True)
                found.update({key: text for key, text in pairs if text is not None})
        return found

    def vectors(self, tenant: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids among these that have a row, and their vectors float32 (n, dim)."""
        found_ids: list[str] = []
        found: list[NDArray[np.float32]] = []
        for part in pages(_keys(tenant, ids), _KEYS_PER_STATEMENT):
            rows = self._rows(part, ["id", "vector"])
            if rows is not None:
                found_ids += rows["id"].to_pylist()
                found.append(vectors_of(rows["vector"], rows.schema.field("vector").type.list_size))
        return found_ids, np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)

    def ids_with(self, tenant: str, name: str, values: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids of the rows whose metadata has one of these texts under `name`, by text."""
        found: dict[str, list[str]] = {}
        for part in pages(list(dict.fromkeys(values)), _KEYS_PER_STATEMENT):
            wanted = set(part)
            labels = ", ".join(str(label_digest(name, value)) for value in part)
            rows = self._read(["id", "metadata"], f"{_of(tenant)} AND array_has_any(labels, [{labels}])")
            for row_id, metadata in [] if rows is None else _pairs(rows, "id", "metadata"):
                text = text_under(metadata, name)
                if isinstance(text, str) and text in wanted:
                    found.setdefault(text, []).append(row_id)
        return found

    def ids(self, tenant: str) -> list[str]:
        """Return the ids of all rows of the tenant."""
        rows = self._read(["id"], _of(tenant))
        return [] if rows is None else rows["id"].to_pylist()

    def count(self, tenant: str) -> int:
        """Return the number of rows of the tenant; 0 if there is no table."""
        return self._reading(lambda version: int(version.count_rows(filter=_of(tenant)))) or 0

    def nearest(self, tenant: str, vector: NDArray[np.float32], limit: int) -> list[Hit]:
        """Return up to `limit` rows of the tenant nearest to `vector` (dim,), nearest first."""

        def search(version: LanceDataset) -> pa.Table:
            self.require_space(version)
            self.require_dim(version, len(vector))
            nearest = {"column": "vector", "q": vector, "k": limit, "metric": "cosine"}
            nearest |= self._way(version, tenant)
            return version.to_table(
                columns=["id", "_distance"], filter=_of(tenant), prefilter=True, nearest=nearest
            )

        rows = self._reading(search)
        if rows is None:
            return []
        return [Hit.from_distance(row_id, distance) for row_id, distance in _pairs(rows, "id", "_distance")]

    # --- within ---

    def _way(self, version: LanceDataset, tenant: str) -> dict[str, Any]:
        """Return how to search. The rows of a small tenant are all compared, which is exact."""
        of_tenant = self._count(version, tenant)
        held = self._partitions(version)
        if held is None or of_tenant < self.limits.index_from_rows:
            return {"use_index": False}
        number = partitions_searched(held, rows=version.count_rows(), of_tenant=of_tenant, limits=self.limits)
        return {"minimum_nprobes": number, "maximum_nprobes": number, "refine_factor": _REFINE_FACTOR}

    def _count(self, version: LanceDataset, tenant: str) -> int:
        """Return how many rows the tenant had some seconds ago. It decides only how they are searched."""
        counted_at, count = self._counts.get(tenant, (-_COUNT_SECONDS, 0))
        if monotonic() - counted_at >= _COUNT_SECONDS:
            count = int(version.count_rows(filter=_of(tenant)))
            if len(self._counts) >= _MOST_COUNTS:
                self._counts.clear()
            self._counts[tenant] = (monotonic(), count)
        return count

    def _rows(self, keys: Sequence[str], columns: Sequence[str]) -> pa.Table | None:
        return self._read(columns, _one_of("key", keys))

    def _read(self, columns: Sequence[str], which: str) -> pa.Table | None:
        return self._reading(lambda version: version.to_table(columns=list(columns), filter=which))


def _pairs(rows: pa.Table, first: str, second: str) -> Iterator[tuple[Any, Any]]:
    return zip(rows[first].to_pylist(), rows[second].to_pylist(), strict=True)


def _keys(tenant: str, ids: Sequence[str]) -> list[str]:
    mine = collection_digest(tenant)
    return [key_digest(mine, row_id) for row_id in dict.fromkeys(ids)]


def _of(tenant: str) -> str:
    """Which rows are of the tenant. A digest needs no quoting."""
    return f"collection = '{collection_digest(tenant)}'"


def _one_of(column: str, digests: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(f'{chr(39)}{one}{chr(39)}' for one in digests)})"
