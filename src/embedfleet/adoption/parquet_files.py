"""Folders of Parquet files that are written piece by piece, and the two schemas of an export.

Import this module only where Parquet is written: it needs pyarrow, which is an extra.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ConfigError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as exc:
    raise ConfigError(
        f"Parquet needs the package pyarrow ({exc}): install the extra `parquet` of embedfleet"
    ) from exc

# What a reader decompresses at once: a row group. 10,000 vectors of 768 dimensions have this size.
_BYTES_PER_GROUP = 32 * 2**20
# Files that tools copy and open in a moment. It counts bytes before compression.
_BYTES_PER_FILE = 2**30
# Vectors take most of an export. They do not compress, and zstd finds that out at little cost.
_COMPRESSION = "zstd"

_NAMES = [
    ("tenant", pa.string(), "whose document it is"),
    ("media_id", pa.string(), "the name of the document, within its tenant"),
    ("version", pa.int32(), "the number of the version of the document, from 1"),
    ("source", pa.string(), "where the document came from; null if that was not said"),
    ("title", pa.string(), "what the document is called; null if only its text says it"),
    ("metadata", pa.string(), "what the submitter says of the document: a JSON object"),
    ("model", pa.string(), "the model of the vectors, by its name in the settings"),
    ("space", pa.string(), "which vectors can be compared: those of one space"),
]

_PASSAGE = [
    ("chunk_index", pa.int32(), "the place of the passage in the document, from 0"),
    ("chunk_id", pa.string(), "the id of the passage and of its row in the vector store"),
    ("start", pa.int64(), "where it begins in the text of the document, in characters"),
    ("end", pa.int64(), "the first character after it"),
    ("tokens", pa.int32(), "the tokens of its context and its text"),
    ("heading", pa.string(), "the headings above it, from the outermost; empty without any"),
    ("context", pa.string(), "what was embedded before the text; empty for nothing"),
    ("page", pa.int32(), "the page that it begins on; null without pages"),
    ("start_seconds", pa.float64(), "when it begins in a recording; null for any other source"),
    ("end_seconds", pa.float64(), "when it ends in a recording"),
    ("text", pa.string(), "the passage"),
    ("vector", pa.list_(pa.float32()), "as the vector store has it; null if the passage was given up"),
]

_TEXT = [
    ("content_type", pa.string(), "how the text was read: text, markdown or code"),
    ("chunking", pa.string(), "how it was cut: a JSON object"),
    ("content_hash", pa.string(), "SHA-256 of the text, or of the text with its title and its places"),
    ("source_hash", pa.string(), "SHA-256 of the file it was read from; null without a file"),
    ("account", pa.string(), "what of the file is not in the text: a JSON object; null for nothing"),
    ("chunks", pa.int32(), "how many passages the document has"),
    ("chars", pa.int64(), "the length of the whole text, in characters"),
    ("start", pa.int64(), "where the text of this row begins in the whole text"),
    ("text", pa.string(), "the text from there; a long document has several rows"),
]


def _schema(columns: Sequence[tuple[str, Any, str]]) -> Any:
    return pa.schema([pa.field(name, kind, metadata={"description": what}) for name, kind, what in columns])


PASSAGES = _schema(_NAMES + _PASSAGE)
"""The schema of a row for each passage. Every field has a description."""

DOCUMENTS = _schema(_NAMES + _TEXT)
"""The schema of a row for each document, or for each piece of a long one."""


def vector_column(vectors: Sequence[NDArray[np.float32] | None]) -> Any:
    """Return the vectors as a column, bit for bit; None becomes null. They may differ in dimension."""
    lengths = [0 if vector is None else len(vector) for vector in vectors]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    present = [vector for vector in vectors if vector is not None]
    values = np.concatenate(present) if present else np.empty(0, np.float32)
    missing = pa.array([vector is None for vector in vectors], pa.bool_())
    return pa.ListArray.from_arrays(offsets, pa.array(values, pa.float32()), mask=missing)


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder of files has: the names of the files in order, and the rows in all of them."""

    files: Sequence[str]
    rows: int


class ParquetFolder:
    """Writes rows of one schema to `part-00000.parquet` and further files of a new folder. Every call blocks.

    Keeps about one row group in memory. Any call raises OSError if the disk refuses a write.
    """

    def __init__(self, folder: Path, schema: Any) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._schema = schema
        self._writer: Any = None
        self._bytes_in_file = 0
        self._rows: list[int] = []
        self._gathered: list[Any] = []
        self._bytes_gathered = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Append rows, given by column. There may be none."""
        table = pa.table(dict(columns), schema=self._schema)
        if not table.num_rows:
            return
        self._gathered.append(table)
        self._bytes_gathered += table.nbytes
        if self._bytes_gathered >= _BYTES_PER_GROUP:
            self._flush()
        if self._bytes_in_file >= _BYTES_PER_FILE:
            self._end_file()

    def mark(self) -> int:
        """End the file. Return a mark: `drop_since` removes all rows that come after it."""
        self._end_file()
        return len(self._rows)

    def drop_since(self, mark: int) -> None:
        """Remove the rows that were added since `mark` returned this."""
        self._gathered, self._bytes_gathered = [], 0
        self._end_file()
        for number in range(mark, len(self._rows)):
            self._path(number).unlink()
        del self._rows[mark:]

    def close(self) -> Written:
        """End the last file. All are on the disk on return. Without rows there is one file, without rows."""
        if not self._rows and self._writer is None:
            self._open_file()
        self._end_file()
        sync(self._folder)
        return Written([self._path(number).name for number in range(len(self._rows))], sum(self._rows))

    def _flush(self) -> None:
        """Write what was gathered as a row group."""
        if not self._gathered:
            return
        if self._writer is None:
            self._open_file()
        table = pa.concat_tables(self._gathered)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._rows[-1] += table.num_rows
        self._bytes_in_file += table.nbytes
        self._gathered, self._bytes_gathered = [], 0

    def _open_file(self) -> None:
        path = self._path(len(self._rows))
        path.touch(mode=0o600)  # it holds documents: for its owner only
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression=_COMPRESSION,
            # Names repeat from row to row; vectors and texts do not.
            use_dictionary=[name for name, _, _ in _NAMES],
        )
        self._rows.append(0)
        self._bytes_in_file = 0

    def _end_file(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            sync(self._path(len(self._rows) - 1))

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.parquet"


def sync(path: Path) -> None:
    """Have the operating system write a file, or the names in a folder, to the disk."""
    if path.is_dir():
        if os.name != "posix":  # Windows opens no folder, and writes their names by itself
            return
        handle = os.open(path, os.O_RDONLY)
    else:
        handle = os.open(path, os.O_RDWR)  # Windows syncs only what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
