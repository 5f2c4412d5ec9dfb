"""Kinds of characters, against Python's own idea of them."""

from __future__ import annotations

import sys

import pytest

from embedfleet.chunking.characters import before_cluster, is_blank
from embedfleet.visible_text import shows_nothing


def test_blank_is_white_space_and_what_shows_nothing_for_every_character() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    blank = is_blank(text).tolist()
    assert blank == [shows_nothing(character) for character in text]
    assert all(is_one for is_one, character in zip(blank, text, strict=True) if character.isspace())


def test_letters_signs_and_pictures_show_something() -> None:
    for character in "aß中あ한ก!€\u0301☃😀\U0001f1e9\u0600\ufffd\ue000":
        assert not shows_nothing(character), ascii(character)


@pytest.mark.parametrize(
    ("text", "cut", "expected"),
    [
        ("abc", 2, 2),
        ("ae\u0301c", 2, 1),
        ("a👩\u200d🔬", 2, 1),
        ("a👩\u200d🔬", 3, 1),
        ("a\u0939\u093f", 2, 1),
        ("\u0301\u0301\u0301", 2, 2),
        ("x🇩🇪🇫🇷🇯🇵", 4, 3),
        ("x🇩🇪🇫🇷🇯🇵", 5, 5),
        ("x🇩🇪🇫🇷🇯🇵", 6, 5),
        ("👍🏽👍🏽👍🏽", 3, 2),
        ("a\u1112\u1161\u11ab", 3, 1),
        ("한국어", 2, 2),
        ("a🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", 5, 1),
        ("11\ufe0f\u20e3", 3, 1),
        ("a👨\u200d👩\u200d👧\u200d👦b", 7, 1),
        ("a👨\u200d👩\u200d👧\u200d👦b", 8, 8),
        ("aक\u094dष", 3, 1),
        ("aa\r\nb", 3, 2),
        ("\r\n", 1, 1),
    ],
)
def test_a_letter_keeps_its_marks_and_an_emoji_its_joiners(text: str, cut: int, expected: int) -> None:
    assert before_cluster(text, 0, cut) == expected


def test_a_long_run_of_marks_is_cut_all_the_same() -> None:
    assert before_cluster("a" + "\u0301" * 100, 0, 60) == 60
