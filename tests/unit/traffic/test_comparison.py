"""How the chunks of two paths are compared: a table of answers and the differences that are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embedfleet.traffic.comparison import Comparison, compare
from embedfleet.traffic.paths import IngestResult, StoredChunk
from embedfleet.traffic.shadow_schemas import DifferenceKind

UP = np.array([1, 0], dtype=np.float32)
ASIDE = np.array([0, 1], dtype=np.float32)
ONE = StoredChunk("0" * 32, 0, 10, UP)
TWO = StoredChunk("1" * 32, 10, 20, ASIDE)
NEW = [ONE, TWO]


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ([ONE, TWO], NEW, []),
        ([ONE, replace(TWO, vector=ASIDE * 7)], NEW, []),  # a length is no direction
        ([ONE], NEW, [DifferenceKind.CHUNK_COUNT]),
        ([ONE, TWO, TWO], NEW, [DifferenceKind.CHUNK_COUNT]),
        ([ONE, replace(TWO, end=19)], NEW, [DifferenceKind.PLACES]),
        ([ONE, replace(TWO, chunk_id="2" * 32)], NEW, [DifferenceKind.CHUNK_IDS]),
        ([ONE, replace(TWO, chunk_id="media_5_chunk_1")], NEW, []),  # not in our form
        ([ONE, replace(TWO, vector=UP)], NEW, [DifferenceKind.COSINE]),
        ([ONE, replace(TWO, vector=-ASIDE)], NEW, [DifferenceKind.COSINE]),
        ([ONE, replace(TWO, vector=np.zeros(2, np.float32))], NEW, [DifferenceKind.COSINE]),
        ([ONE, replace(TWO, vector=np.full(2, np.nan, np.float32))], NEW, [DifferenceKind.COSINE]),
        ([ONE, replace(TWO, vector=np.ones(3, np.float32))], NEW, [DifferenceKind.DIMENSION]),
        ([ONE, TWO], [ONE, replace(TWO, vector=None)], [DifferenceKind.COSINE]),
        ([ONE, replace(TWO, vector=None)], NEW, []),  # the old path does not tell it
        # Chunks with the same place are compared although there are more on one side.
        ([replace(TWO, vector=UP)], NEW, [DifferenceKind.CHUNK_COUNT, DifferenceKind.COSINE]),
        (
            [TWO, ONE],
            NEW,
            [DifferenceKind.PLACES, DifferenceKind.CHUNK_IDS, DifferenceKind.COSINE],
        ),
    ],
)
def test_what_differs_is_found(
    old: list[StoredChunk], new: list[StoredChunk], kinds: list[DifferenceKind]
) -> None:
    answer = IngestResult(chunks=len(old), stored=old)
    found = compare(answer, new, min_cosine=0.99999).differences
    assert [one.kind for one in found] == kinds


def test_of_a_path_that_tells_no_chunks_their_number_is_compared() -> None:
    assert compare(IngestResult(chunks=2), NEW, min_cosine=0.999) == Comparison([])
    (found,) = compare(IngestResult(chunks=3), NEW, min_cosine=0.999).differences
    assert (found.kind, found.details) == (DifferenceKind.CHUNK_COUNT, {"old": 3, "new": 2})


def test_the_lowest_cosine_is_told_with_its_chunk() -> None:
    old = [replace(ONE, vector=ASIDE), replace(TWO, vector=-ASIDE)]
    (found,) = compare(IngestResult(2, stored=old), NEW, min_cosine=0.5).differences
    assert found.details == {"chunk": TWO.chunk_id, "cosine": -1.0}


def test_it_is_told_of_how_many_chunks_ids_and_vectors_were_compared() -> None:
    old = [replace(ONE, vector=None), replace(TWO, chunk_id="media_5_chunk_1")]
    compared = compare(IngestResult(2, stored=old), NEW, min_cosine=0.5)
    assert (compared.ids, compared.vectors) == (1, 1)
