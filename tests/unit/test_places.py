"""Pages and seconds are those of the text, wherever it is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from embedfleet.places import NOWHERE, Places

BOOK = Places(pages=((0, 1), (100, 2), (250, 4)))
TALK = Places(cues=((10, 0.5, 2.0), (40, 2.0, 5.0), (70, 6.0, 7.5)))


def test_a_page_reaches_to_the_beginning_of_the_next() -> None:
    assert [BOOK.page_at(offset) for offset in (0, 99, 100, 249, 250, 9999)] == [1, 1, 2, 2, 4, 4]
    assert Places(pages=((5, 1),)).page_at(4) is None
    assert NOWHERE.page_at(0) is None


def test_a_span_is_said_from_its_first_cue_to_its_last() -> None:
    assert TALK.seconds_of(10, 40) == (0.5, 2.0)
    assert TALK.seconds_of(15, 41) == (0.5, 5.0)
    assert TALK.seconds_of(45, 500) == (2.0, 7.5)
    assert TALK.seconds_of(0, 5) == (0.5, 2.0)  # what stands before the first cue is said at its beginning
    assert NOWHERE.seconds_of(0, 5) is None


@given(st.lists(st.integers(1, 300)))
def test_the_places_of_the_pieces_of_a_text_are_those_of_the_whole(cuts: list[int]) -> None:
    edges = sorted({0, 1000, *cuts})
    both = Places(BOOK.pages, TALK.cues)
    joined = NOWHERE
    for start, end in itertools.pairwise(edges):
        joined = joined.followed_by(Places.unpacked(both.between(start, end).packed()))
    assert joined == both
