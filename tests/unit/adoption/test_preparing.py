"""Which rows are written as they are: those in whose place the model reads the same tokens."""

from __future__ import annotations

import numpy as np
import pytest

from embedfleet.adoption.beginning import TakenDocument
from embedfleet.adoption.judging import Judged, Reason, SourceRow, judged
from embedfleet.adoption.layout import LayoutOptions, RowFacts
from embedfleet.adoption.layouts import layout_of
from embedfleet.adoption.preparing import Candidate, Cutting, prepared
from embedfleet.adoption.survey import DocumentKey
from embedfleet.adoption.texts import KnownText
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.settings import ModelsSettings

STUB = Catalogue(ModelsSettings()).info("stub")
CUTTING = Cutting(ChunkingConfig(), 64)


def prepare(text: str, *rows: str, first: float = 1.0) -> TakenDocument | Judged:
    found = [
        SourceRow(place, place, row, {}, RowFacts(heading="H", page=2)) for place, row in enumerate(rows)
    ]
    verdict = judged(found, KnownText(text), layout_of("plain", LayoutOptions("t")))
    vectors = np.arange(len(rows) * 4, dtype=np.float32).reshape(-1, 4)
    vectors[0] = [first, first, first, first]
    candidate = Candidate(DocumentKey("t", "1"), verdict, vectors, STUB, normalise=False)
    (result,) = prepared([candidate], CUTTING)
    return result


def test_chunks_have_the_places_tokens_and_vectors_of_their_rows() -> None:
    made = prepare("One  two. Three four.", "One two.", "Gone.", "Three four.")
    assert isinstance(made, TakenDocument)
    assert made.texts == ["One  two.", "Three four."]
    assert [(row.start, row.end, row.tokens, row.heading, row.page) for row in made.chunks] == [
        (0, 9, 3, "H", 2),
        (10, 21, 3, "H", 2),
    ]
    assert made.vectors.tolist() == [[1, 1, 1, 1], [8, 9, 10, 11]]
    assert (made.coverage, made.recipe.chars) == (1.0, 21)


@pytest.mark.parametrize(
    ("text", "rows", "reason"),
    [
        # A separator that splits words for Python, and that the model's tokeniser removes: it reads "onetwo".
        ("one\x1ctwo", ["one two"], Reason.CHANGED),
        (" ".join(["word"] * 300), [" ".join(["word"] * 300)], Reason.TRUNCATED),
        ("One. \u200b", ["One.", "\u200b"], Reason.CHANGED),
    ],
)
def test_rows_in_whose_place_the_model_reads_something_else_are_embedded_again(
    text: str, rows: list[str], reason: Reason
) -> None:
    made = prepare(text, *rows)
    assert isinstance(made, Judged)
    assert made.reason is reason


@pytest.mark.parametrize("first", [0.0, np.nan, np.inf])
def test_a_document_with_a_vector_that_no_search_finds_is_embedded_again(first: float) -> None:
    made = prepare("One. Two.", "One.", "Two.", first=first)
    assert isinstance(made, Judged)
    assert made.reason is Reason.NO_DIRECTION
