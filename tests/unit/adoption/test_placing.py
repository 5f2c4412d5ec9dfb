"""Where chunks of another system are in a text, and a text that is made of chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.adoption.placing import Piece, Placing, assembled

TEXT = "One  two three.\n\nFour five six.\n\nOne  two three. Seven."


def found(text: str, *pieces: Piece) -> list[str | None]:
    placing = Placing(text)
    spans = [placing.find(piece) for piece in pieces]
    return [None if span is None else text[slice(*span)] for span in spans]


def test_a_chunk_is_found_at_its_offset_or_else_after_the_chunk_before() -> None:
    assert Placing(TEXT).find(Piece("One  two three.")) == (0, 15)
    assert Placing(TEXT).find(Piece("One  two three.", start=33)) == (33, 48)
    placing = Placing(TEXT)
    assert placing.find(Piece("Four five six.")) == (17, 31)
    # The text comes twice: this is the one after "Four".
    assert placing.find(Piece("One  two three.")) == (33, 48)
    # A wrong offset is not believed.
    assert Placing(TEXT).find(Piece("Four five six.", start=3)) == (17, 31)


def test_a_chunk_whose_words_were_joined_again_has_the_blanks_of_the_text() -> None:
    assert found(TEXT, Piece("One two three. Four five"), Piece("five six. One two three.")) == [
        "One  two three.\n\nFour five",
        "five six.\n\nOne  two three.",
    ]


def test_a_chunk_that_is_not_in_the_text_is_nowhere() -> None:
    assert found(TEXT, Piece("Eight."), Piece("One two nine"), Piece(" "), Piece("Seven.")) == [
        None,
        None,
        " ",
        "Seven.",
    ]


def test_what_two_chunks_share_comes_once_if_it_is_long_or_their_offsets_say_so() -> None:
    shared = "words that both of the chunks have"
    text, spans = assembled([Piece(f"Begin {shared}"), Piece(f"{shared} end")])
    assert text == f"Begin {shared} end"
    assert [text[slice(*span)] for span in spans] == [f"Begin {shared}", f"{shared} end"]
    # Three letters may be chance, unless the offsets say that they are the same.
    assert assembled([Piece("a cat"), Piece("cat b")])[0] == "a cat\n\ncat b"
    assert assembled([Piece("a cat", 0, 5), Piece("cat b", 2, 7)])[0] == "a cat b"
    # Offsets that say otherwise count more than what looks alike.
    assert assembled([Piece(shared, 0, 34), Piece(shared, 40, 74)])[0] == f"{shared}\n\n{shared}"


@given(st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=30), min_size=1, max_size=6))
def test_every_chunk_of_a_made_text_is_where_it_is_said_to_be(texts: list[str]) -> None:
    text, spans = assembled([Piece(one) for one in texts])
    assert [text[slice(*span)] for span in spans] == texts
    assert spans[-1][1] == len(text)
    assert all(first[0] <= second[0] for first, second in pairwise(spans))


@given(st.text(st.sampled_from("ab. \n"), max_size=60), st.integers(1, 9), st.integers(0, 4))
def test_all_chunks_of_any_cut_are_found_and_cover_the_text(text: str, size: int, overlap: int) -> None:
    starts = range(0, len(text), max(1, size - overlap))
    cut = [(start, min(start + size, len(text))) for start in starts]
    placing = Placing(text)
    spans = [placing.find(Piece(text[start:end], start, end)) for start, end in cut]
    assert spans == cut


@pytest.mark.parametrize("blanks", ["", " ", "\n\n"])
def test_a_chunk_without_words_is_found_only_as_it_is(blanks: str) -> None:
    assert Placing("word").find(Piece(blanks or "x")) is None
