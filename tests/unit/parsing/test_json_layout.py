"""JSON is laid out, never interpreted: nothing of it is lost or changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.parsing.json_layout import read_json
from support.reading import read_with

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


def _read(data: str) -> str:
    document = read_with(read_json, data.encode())
    assert document.content_type == "code"
    return document.text


def test_one_member_a_line() -> None:
    assert _read('{"a":[1,{"b":2}],"c":[],"d":{}}') == (
        '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ],\n  "c": [],\n  "d": {}\n}\n'
    )


def test_a_blank_line_between_the_records_of_json_lines() -> None:
    assert _read('{"a": 1}\n{"a": 2}\n') == '{\n  "a": 1\n}\n\n{\n  "a": 2\n}\n'


@given(_VALUES, st.booleans())
def test_the_laid_out_file_holds_the_same_value(value: Any, ascii_only: bool) -> None:
    assert json.loads(_read(json.dumps(value, ensure_ascii=ascii_only))) == value


def test_escaped_characters_are_written_as_themselves() -> None:
    assert _read('["\\u00e9t\\u00e9 \\ud83d\\ude00 \\u0022"]') == '[\n  "été 😀 \\""\n]\n'


def test_half_a_surrogate_pair_stays_escaped() -> None:
    assert _read('["\\ud800"]') == '[\n  "\\ud800"\n]\n'


def test_numbers_keep_their_digits_and_repeated_keys_stay() -> None:
    text = _read('{"a": 1.10, "a": 12345678901234567890.123, "b": 1e999}')
    assert '"a": 1.10,' in text
    assert "12345678901234567890.123" in text
    assert "1e999" in text


@pytest.mark.parametrize(
    "broken", ['{"a": [1, 2', '["unclosed', '["x" // note\n, 2]', "]]}}", '["\\', '{"a" "b"}', "'a': 1"]
)
def test_what_is_not_quite_json_loses_nothing_but_white_space(broken: str) -> None:
    assert "".join(_read(broken).split()) == "".join(broken.split())


def test_deep_nesting_costs_neither_stack_nor_a_flood_of_indentation() -> None:
    depth = 100_000
    text = _read("[" * depth + "]" * depth)
    assert text.count("[") == depth
    assert len(text) < 50 * depth
