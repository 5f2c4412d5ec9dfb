"""LanceDB as a kind of source (`vectors.registry.SourceKind`): the tables of a directory.

A column of vectors of one size is a collection. The id of a row is its `id`, if there is such a column and
its values differ, otherwise the number that Lance gives the row. The text and an object of metadata are in
columns with usual names (`vectors.source_columns`). All other columns are metadata too.

A version of a table never changes, so nothing is copied: each table is read as it was when it was opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedfleet.errors import ConfigError, Permanent, VectorStoreUnavailable, one_line
from embedfleet.vectors.source import LABELS_PAGE, Source, SourceCollection, SourceLabels, SourceRows
from embedfleet.vectors.source_columns import METADATA_COLUMNS, TEXT_COLUMNS, first_of, row_metadata
from embedfleet.vectors.source_thread import SourceOnThread

_TABLES = "*.lance"
_ROW_NUMBER = "_rowid"
_ID = "id"


async def open_source(place: str, *, scratch: Path) -> Source:
    """Open a directory of LanceDB. Nothing is copied, so `scratch` is not used.

    Raises ConfigError if the directory has no table of vectors, or if the library is missing.
    """
    return await _LanceSource(Path(place)).opened()


@dataclass(frozen=True, slots=True)
class _Vectors:
    """A column of vectors of a table that is open."""

    table: Any
    column: str
    id: str | None
    text: str | None
    nested: str | None
    others: Sequence[str]
    rows: int
    distance: str

    @property
    def labels(self) -> list[str]:
        """The columns of the labels of a row."""
        return [name for name in (self.id, self.nested, *self.others) if name is not None]


class _LanceSource(SourceOnThread):
    """Reads the tables of a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory))
        self._directory = directory
        self._found: Mapping[str, _Vectors] = {}
        self._numbers: dict[str, dict[str, int]] = {}

    async def collections(self) -> list[SourceCollection]:
        return [
            SourceCollection(name, one.rows, one.distance, {}) for name, one in sorted(self._found.items())
        ]

    async def labels(self, collection: str, *, page: int = LABELS_PAGE) -> AsyncIterator[SourceLabels]:
        one = await self.run(lambda: self._found[collection])
        batches = await self.run(lambda: iter(_scan(one, one.labels).to_batches(batch_size=page)))
        while (batch := await self.run(lambda: next(batches, None))) is not None:
            rows = batch.to_pylist()
            yield SourceLabels([_id(one, row) for row in rows], [_metadata(one, row) for row in rows])

    async def rows(self, collection: str, ids: Sequence[str]) -> SourceRows:
        one = await self.run(lambda: self._found[collection])
        found = await self.run(lambda: self._rows(collection, one, ids))
        rows = found.drop_columns([one.column]).to_pylist()
        vectors = [vector.values.to_numpy() for vector in found[one.column]]
        return SourceRows(
            [_id(one, row) for row in rows],
            np.array(vectors, dtype=np.float32).reshape(len(rows), -1),
            [_metadata(one, row) for row in rows],
            [None if one.text is None else row[one.text] for row in rows],
        )

    # --- on the thread ---

    def open_client(self) -> None:
        # A connection would make a directory that is missing.
        if not any(self._directory.glob(_TABLES)):
            raise ConfigError(f"{self._directory} is no directory of LanceDB: it has no folder {_TABLES}")
        try:
            import lancedb
        except ImportError as exc:
            raise ConfigError(
                f"LanceDB is not installed ({exc}): install the extra `lancedb` of embedfleet"
            ) from exc
        database = lancedb.connect(self._directory)
        self._found = {
            name: one
            for path in sorted(self._directory.glob(_TABLES))
            for name, one in _described(database.open_table(path.stem))
        }
        if not self._found:
            raise ConfigError(f"{self._directory} has no table with vectors of one size")

    def end_client(self) -> None:
        self._found, self._numbers = {}, {}  # the library closes files when it forgets the tables

    def mapped_error(self, exc: BaseException) -> BaseException:
        if isinstance(exc, OSError):
            return VectorStoreUnavailable(f"the source {self.place} cannot be read now: {one_line(exc)}")
        if isinstance(exc, RuntimeError | ValueError):  # what the library raises for all that it finds wrong
            return Permanent(f"the source {self.place} cannot be read: {one_line(exc)}")
        return exc

    def _rows(self, collection: str, one: _Vectors, ids: Sequence[str]) -> Any:
        numbers = self._numbers_of(collection, one)
        wanted = [numbers[row_id] for row_id in ids if row_id in numbers]
        columns = [*one.labels, one.column, *([one.text] if one.text else [])]
        return one.table.take_row_ids(wanted).select(columns).with_row_id().to_arrow()

    def _numbers_of(self, collection: str, one: _Vectors) -> Mapping[str, int]:
        """The number of each row by its id, of the collection that was read last."""
        if collection not in self._numbers:
            scanned = _scan(one, [one.id] if one.id else []).to_batches(batch_size=LABELS_PAGE)
            self._numbers = {
                collection: {
                    _id(one, row): row[_ROW_NUMBER] for batch in scanned for row in batch.to_pylist()
                }
            }
        return self._numbers[collection]


def _described(table: Any) -> Iterator[tuple[str, _Vectors]]:
    """Describe each column of vectors of the table, by the name of its collection."""
    import pyarrow as pa

    # What others write from now on is not seen. Without this the library leaves open whether it is.
    table.checkout(table.version)
    schema = table.schema
    vectors = [field.name for field in schema if _is_vector(field.type)]
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    nested = first_of(METADATA_COLUMNS, [field.name for field in schema if pa.types.is_struct(field.type)])
    text = first_of(TEXT_COLUMNS, texts)
    row_id = _ID if _tells_rows_apart(table, schema) else None
    told = {*vectors, text, nested, row_id}
    distances = _distances(table)
    for column in vectors:
        yield (
            table.name if len(vectors) == 1 else f"{table.name}.{column}",
            _Vectors(
                table=table,
                column=column,
                id=row_id,
                text=text,
                nested=nested,
                others=[name for name in schema.names if name not in told],
                rows=table.count_rows(_has(column)),
                distance=distances.get(column, ""),
            ),
        )


def _is_vector(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def _tells_rows_apart(table: Any, schema: Any) -> bool:
    """Whether every row has an `id` of its own. Lance does not enforce it."""
    if _ID not in schema.names:
        return False
    ids = table.search().select([_ID]).to_arrow()[_ID]
    return len(ids.unique()) == len(ids) and not ids.null_count


def _distances(table: Any) -> dict[str, str]:
    """What the indexes compare vectors with, by column. Without an index the reader decides."""
    found: dict[str, str] = {}
    for index in table.list_indices():
        statistics = table.index_stats(index.name)
        distance = None if statistics is None else statistics.distance_type
        if distance is not None:
            found[index.columns[0]] = {"dot": "ip"}.get(distance, distance)
    return found


def _has(column: str) -> str:
    return f"`{column}` IS NOT NULL"


def _scan(one: _Vectors, columns: Sequence[str]) -> Any:
    """Read these columns of the rows that have a vector, and the number of each row."""
    return one.table.search().where(_has(one.column)).select(list(columns)).with_row_id(True)


def _id(one: _Vectors, row: Mapping[str, Any]) -> str:
    return str(row[_ROW_NUMBER] if one.id is None else row[one.id])


def _metadata(one: _Vectors, row: Mapping[str, Any]) -> dict[str, Any]:
    nested = None if one.nested is None else row[one.nested]
    return row_metadata({name: row[name] for name in one.others}, nested)
