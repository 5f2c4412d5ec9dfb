"""Queries of a process that asks once and ends: by Chroma's Rust core alone, without the rest of chromadb.

Importing chromadb takes a second of CPU, mostly for telemetry, and a query needs none of that. What is called
here is what chromadb's own client calls, in the same way. It is not documented, so it may change: then, and
whenever anything else fails, there is no answer, and the caller asks through chromadb's client.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from embedfleet.paging import pages
from embedfleet.vectors.port import Hit

# Where chromadb's client keeps its collections if it is told nothing else.
_PLACE = ("default_tenant", "default_database")
# The number of indexes that are kept open at once. One process asks one collection, and a tenant has few.
_INDEXES = 8


class QuickQueries:
    """The collections in a directory, for queries. Only one process may have the directory open.

    Opening applies no migration. A query may write what Chroma's process before this one left undone.
    """

    def __init__(self, directory: Path) -> None:
        """Open the directory. Raises anything at all if this release of Chroma differs from those we know."""
        import chromadb_rust_bindings as rust

        database = rust.SqliteDBConfig(
            hash_type=rust.MigrationHash.MD5,
            migration_mode=rust.MigrationMode.Validate,
            url=str(directory / "chroma.sqlite3"),
        )
        self._bindings: Any = rust.Bindings(
            allow_reset=False,
            sqlite_db_config=database,
            persist_path=str(directory),
            hnsw_cache_size=_INDEXES,
        )

    def query(self, name: str, vector: Sequence[float], space: str, limit: int) -> list[Hit] | None:
        """Answer as `ChromaCollections.query` does; None if something is wrong with the question.

        Raises anything at all, as the constructor does.
        """
        if limit < 1 or not all(map(isfinite, vector)):
            return None
        collection = self._bindings.get_collection(name, *_PLACE)
        if collection.metadata != {"space": space, "dim": len(vector)}:
            return None
        answer = self._bindings.query(
            str(collection.id), None, [list(vector)], limit, None, None, ["distances"], *_PLACE
        )
        return [
            Hit.from_distance(row_id, distance)
            for row_id, distance in zip(answer.ids[0], answer.distances[0], strict=True)
        ]

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[list[str], Sequence[Sequence[float]]]:
        """Answer as `ChromaCollections.vectors` does, but raise anything at all, as the constructor does."""
        collection = self._bindings.get_collection(name, *_PLACE)
        found_ids: list[str] = []
        found: list[Sequence[float]] = []
        for part in pages(list(dict.fromkeys(ids)), self._bindings.get_max_batch_size()):
            answer = self._bindings.get(
                str(collection.id), part, None, None, 0, None, ["embeddings"], *_PLACE
            )
            found_ids += answer.ids
            found += answer.embeddings
        return found_ids, found
