"""Nothing that a terminal obeys passes `printable`, and nothing that is harmless is changed."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.printable import harmless, harmless_json, harmless_lines

HARMFUL = "\x1b\x9b\x07\n\t\u202e\udc9b\U000e0041"
ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from(HARMFUL))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07.txt", "\\x1b]0;owned\\x07.txt"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("in\u202evoice", "in\\u202evoice"),
        ("a byte \udce9", "a byte \\xe9"),
        ("a tag \U000e0041", "a tag \\U000e0041"),
        ("naïve 漢字 עברית 👩\u200d👩 می\u200cخواهم", "naïve 漢字 עברית 👩\u200d👩 می\u200cخواهم"),
    ],
)
def test_what_a_terminal_obeys_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(ANY_TEXT)
def test_one_line_has_no_control_character_whatever_the_text(text: str) -> None:
    shown = harmless(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(character) for character in shown} & {
        "LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    }  # fmt: skip
    assert harmless(shown) == shown
    shown.encode()


@given(ANY_TEXT)
def test_lines_keep_their_newlines_and_tabs_only(text: str) -> None:
    assert [harmless(line) for line in harmless_lines(text).replace("\t", " ").split("\n")] == (
        harmless_lines(text).replace("\t", " ").split("\n")
    )


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_json_says_the_same_and_is_harmless(document: dict[str, str]) -> None:
    text = harmless_json(json.dumps(document, ensure_ascii=False, indent=2))
    # Two halves of a character that stand side by side are one character for a reader of JSON.
    assert json.loads(text) == json.loads(json.dumps(document))
    assert harmless_lines(text) == text
