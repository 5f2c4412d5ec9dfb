"""Kinds of characters, against Python's own idea of them."""

from __future__ import annotations

import sys

import pytest

from embedfleet.chunking.characters import before_mark, is_blank


def test_blank_is_what_isspace_says_for_every_character() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    assert is_blank(text).tolist() == [character.isspace() for character in text]


@pytest.mark.parametrize(
    ("text", "cut", "expected"),
    [
        ("abc", 2, 2),
        ("ae\u0301c", 2, 1),
        ("a👩\u200d🔬", 2, 1),
        ("a👩\u200d🔬", 3, 1),
        ("a\u0939\u093f", 2, 1),
        ("\u0301\u0301\u0301", 2, 2),
    ],
)
def test_a_letter_keeps_its_marks_and_an_emoji_its_joiners(text: str, cut: int, expected: int) -> None:
    assert before_mark(text, 0, cut) == expected


def test_a_long_run_of_marks_is_cut_all_the_same() -> None:
    assert before_mark("a" + "\u0301" * 100, 0, 60) == 60
