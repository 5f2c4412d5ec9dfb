"""JSON is laid out as names and values, never interpreted: nothing of it is lost or changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.parsing.json_layout import lay_out, read_json
from support.reading import read_with

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner),
)


def _read(data: str) -> str:
    document = read_with(read_json, data.encode())
    assert document.content_type == "text"
    return document.text


def _scalars(value: Any) -> Iterator[str]:
    """The names and values of a JSON value, in their order, as the layout writes them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _scalars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(inner)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def test_one_member_a_line() -> None:
    assert _read('{"a":[1,{"b":2}],"c":[],"d":{}}') == "a:\n  1\n\n  b: 2\nc: []\nd: {}\n"


def test_a_blank_line_between_the_records_of_json_lines() -> None:
    assert _read('{"a": 1}\n{"a": 2}\n') == "a: 1\n\na: 2\n"


def test_records_in_a_list_are_paragraphs() -> None:
    assert _read('[{"a": "x", "b": {"c": 1}}, {"a": "y"}]') == "a: x\nb:\n  c: 1\n\na: y\n"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('{"xy": [1.50, -2], "tags": ["gate", "weir"]}', "xy: 1.50, -2\ntags: gate, weir\n"),
        ('{"names": ["Moor, Ines", "Pollak, Jan"]}', "names:\n  Moor, Ines\n  Pollak, Jan\n"),
        ("[[1, 2], [3, 4]]", "1, 2\n3, 4\n"),
        ('{"a": "", "b": null, "c": true}', 'a: ""\nb: null\nc: true\n'),
    ],
)
def test_short_items_stand_in_one_line(data: str, text: str) -> None:
    assert _read(data) == text


def test_strings_are_unescaped() -> None:
    said = 'First I closed the gate.\nThen the wheel stopped.\n\n"Why?" asked the miller.\tSilence.'
    where = "Check the bolts: C:\\mill\\new\nReplace the rotor. a/b"
    text = _read(json.dumps({"text": said, "note": where}).replace("/", "\\/"))
    assert text == f"text: {said}\nnote: {where}\n"


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("\\u00e9t\\u00e9 \\ud83d\\ude00 \\u0022", 'été 😀 "'),
        ("a\\r\\nb\\rc", "a\nb\nc"),
        ("a\\u0000b\\bc\\fd", "abc d"),
        ("half \\ud800 a pair", "half \\ud800 a pair"),
        ("\\d+\\.csv", "\\d+\\.csv"),
        ("\\\\\\\\server\\\\new", "\\\\server\\new"),
        ("\\\\u00e9", "\\u00e9"),
    ],
)
def test_escapes_become_what_they_mean_and_other_backslashes_stay(escaped: str, text: str) -> None:
    assert _read(f'["{escaped}"]') == f"{text}\n"


def test_json_in_a_string_is_laid_out_too() -> None:
    inner = json.dumps({"query": "gate\nfour", "more": json.dumps({"n": [1]})})
    assert _read(json.dumps({"call": inner, "end": 1})) == ("call:\nquery: gate\nfour\nmore:\nn: 1\nend: 1\n")
    assert _read('{"a": "[1] is no JSON", "b": "{x}"}') == "a: [1] is no JSON\nb: {x}\n"


@given(_VALUES, st.booleans())
def test_the_text_has_every_name_and_value_in_order(value: Any, ascii_only: bool) -> None:
    text = lay_out(json.dumps(value, ensure_ascii=ascii_only), nested=9)
    text = "".join(text.split())
    at = 0
    for scalar in _scalars(value):
        wanted = "".join(scalar.replace("\0", "").replace("\b", "").split())
        at = text.index(wanted, at) + len(wanted)


def test_numbers_keep_their_digits_and_repeated_names_stay() -> None:
    text = _read('{"a": 1.10, "a": 12345678901234567890.123, "b": 1e999}')
    assert text == "a: 1.10\na: 12345678901234567890.123\nb: 1e999\n"


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ('{"a": [1, 2', "a: 1, 2\n"),
        ('["unclosed', "unclosed\n"),
        ('["x" // note\n, 2]', "x // note, 2\n"),
        (']}"a"]', "a\n"),
        ('{"a" "b"}', "a b\n"),
        ("{'a': 1,}", "'a': 1\n"),
        ('// first\n{"a": {"b": 1', "// first\n\na:\n  b: 1\n"),
    ],
)
def test_what_is_not_quite_json_keeps_its_text(broken: str, text: str) -> None:
    assert _read(broken) == text


def test_deep_nesting_costs_neither_stack_nor_a_flood_of_indentation() -> None:
    depth = 50_000
    text = _read('{"a":[' * depth + "1" + "]}" * depth)
    assert text.count("a") == depth
    assert len(text) < 50 * depth
