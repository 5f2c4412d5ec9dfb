"""Segments end where the text has its strongest boundary near the target."""

from __future__ import annotations

import pytest

from embedfleet.chunking.segments import segment_spans


def pieces(text: str, target: int) -> list[str]:
    return [text[start:end] for start, end in segment_spans(text, target_chars=target)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("12345678901\n\n4\n6. 9 1 3 5", "12345678901\n\n"),
        ("12345678901\n3. 6 8 0 2 4 6", "12345678901\n"),
        ("123456789012. 5 7 9 1 3 5", "123456789012. "),
        ("一二三四五六七八九十一二。四五六七八九十", "一二三四五六七八九十一二。"),
        ("123456789012 45678901234", "123456789012 "),
        ("123456789012345678901234", "1234567890123456"),
    ],
)
def test_the_strongest_boundary_in_the_last_quarter_wins(text: str, first: str) -> None:
    assert pieces(text, 16)[0] == first


def test_a_boundary_far_before_the_target_is_not_used() -> None:
    assert pieces("a\n\n" + "b" * 100, 50)[0] == "a\n\n" + "b" * 47


@pytest.mark.parametrize("text", ["aaaa\r\nbbbb", "\ud83d\ude00" * 5, "e\u0301" * 5])
def test_pairs_are_never_cut_apart(text: str) -> None:
    for target in range(2, len(text)):
        for piece in pieces(text, target)[1:]:
            assert piece[0] not in "\n\ude00\u0301"


def test_an_empty_text_has_no_segments() -> None:
    assert pieces("", 10) == []


def test_a_short_text_is_one_segment() -> None:
    assert pieces("ab\n\ncd", 6) == ["ab\n\ncd"]


def test_a_target_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="target_chars"):
        list(segment_spans("text", target_chars=0))
