"""The nearest rows of a collection: by its indexes, and by comparison for the rows that are in none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.vectors.pgvector.rows import require_dim
from embedfleet.vectors.pgvector.schema import Entry, Extension, Run, find
from embedfleet.vectors.pgvector.upkeep import Segment, indexed_expression, segments_of
from embedfleet.vectors.pgvector.wire import VectorArray, one_vector
from embedfleet.vectors.port import CollectionKey, Hit

# Of an index of vectors of two bytes a number, which has some of the nearest in another order.
_SPARE_ROWS = 10
# How many rows a search of an index keeps in view: more find more of the nearest, and take longer.
_LEAST_IN_VIEW, _MOST_IN_VIEW = 100, 1_000
# For more hits than this, to compare all rows is quicker than to walk through an index.
_MOST_BY_INDEX = 2_000


def nearest(
    run: Run, extension: Extension, collection: CollectionKey, vector: NDArray[np.float32], limit: int
) -> list[Hit]:
    """Return up to `limit` rows nearest to the vector (dim,), nearest first."""
    entry = find(run, collection)
    if entry is None:
        return []
    require_dim(entry, len(vector))
    segments = segments_of(run, entry) if entry.own_tables and limit <= _MOST_BY_INDEX else []
    search = _Search(run, extension, entry, one_vector(vector, extension.vector_oid), limit)
    if not segments:
        return ranked(search.by_comparison("true"), limit)
    search.look_farther()
    found = [row for segment in segments for row in search.by_index(segment)]
    for where in _outside(segments):
        found += search.by_comparison(where)
    return ranked(found, limit)


@dataclass(frozen=True, slots=True)
class _Search:
    run: Run
    extension: Extension
    entry: Entry
    vector: VectorArray
    limit: int

    @property
    def _given(self) -> str:
        return f"(%b::{self.extension.vector}[])[1]"

    def by_comparison(self, where: str) -> list[tuple[str, float]]:
        """Compare the vector with each of these rows; return the nearest as (id, cosine distance)."""
        return self.run(
            f"SELECT id, vector {self.extension.cosine_distance} {self._given} AS distance "
            f"FROM {self.entry.vectors} WHERE collection = %s AND {where} ORDER BY distance LIMIT %s",
            (self.vector, self.entry.number, self.limit),
        )

    def look_farther(self) -> None:
        """Set for this transaction how far a search of an index goes."""
        in_view = min(max(_LEAST_IN_VIEW, 2 * self.limit), _MOST_IN_VIEW)
        self.run(
            "SELECT set_config('hnsw.ef_search', %s, true), "
            # Go on when rows in view were deleted, or when more are wanted than are in view.
            "set_config('hnsw.iterative_scan', 'relaxed_order', true), "
            # Otherwise the planner may compare all rows of a small segment.
            "set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)",
            (str(in_view),),
        )

    def by_index(self, segment: Segment) -> list[tuple[str, float]]:
        """Return the nearest rows of a segment. The order is of the index, the distances are exact."""
        wanted = self.limit + max(_SPARE_ROWS, self.limit // 4)
        indexed = indexed_expression(self.extension, "vector", self.entry.dim)
        given = indexed_expression(self.extension, self._given, self.entry.dim)
        return self.run(
            f"SELECT id, vector {self.extension.cosine_distance} {self._given} FROM {self.entry.vectors} "
            f"WHERE seq >= {segment.first_seq} AND seq < {segment.past_seq} "
            f"ORDER BY {indexed} {self.extension.cosine_distance} {given} LIMIT %s",
            (self.vector, self.vector, wanted),
        )


def _outside(segments: Sequence[Segment]) -> Iterator[str]:
    """Yield conditions for the rows that are in no segment."""
    past = 0
    for segment in segments:
        if segment.first_seq > past:
            yield f"seq >= {past} AND seq < {segment.first_seq}"
        past = segment.past_seq
    yield f"seq >= {past}"


def ranked(found: list[tuple[str, float]], limit: int) -> list[Hit]:
    """Return the nearest of the rows that were found, as hits."""
    # A vector of zeros has no direction: its cosine is taken to be 0.
    hits = [
        Hit.from_distance(row_id, 1.0 if math.isnan(distance) else distance) for row_id, distance in found
    ]
    hits.sort(key=lambda hit: -hit.score)
    return hits[:limit]
