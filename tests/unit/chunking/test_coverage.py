"""Coverage says what was left out, and only that."""

from __future__ import annotations

import pytest

from embedfleet.chunking.coverage import Coverage
from support.coverage import measure_coverage


@pytest.mark.parametrize("segments", [["ab cd ef"], ["ab", " cd ", "", "ef"], list("ab cd ef")])
def test_a_dropped_word_is_missed_however_the_text_is_cut(segments: list[str]) -> None:
    coverage = measure_coverage(segments, [(0, 2), (6, 8)])
    assert coverage == Coverage(total_chars=8, blank_chars=2, covered_chars=4)
    assert coverage.ratio == pytest.approx(4 / 6)


def test_dropped_white_space_is_not_missed() -> None:
    assert measure_coverage([" ab\n\x0c\ncd "], [(1, 3), (6, 8)]).ratio == 1.0


def test_overlap_is_counted_once() -> None:
    assert measure_coverage(["abcdef"], [(0, 4), (2, 6), (3, 6)]).covered_chars == 6


@pytest.mark.parametrize("segments", [[], [""], [" \n"]])
def test_a_text_of_white_space_only_is_fully_covered(segments: list[str]) -> None:
    assert measure_coverage(segments, []).ratio == 1.0


def test_text_after_the_last_span_is_missed() -> None:
    assert measure_coverage(["ab", "cd"], [(0, 2)]).ratio == 0.5
