"""Finds words: the smallest pieces into which a text can be cut without changing token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import (
    CLOSER,
    MARK,
    SENTENCE_END,
    SPACE,
    WIDE_PAUSE,
    WIDE_SENTENCE_END,
    Characters,
    before_cluster,
    look_up,
)

_MAX_CLOSING_MARKS = 4
"""How many closing marks belong to a wide sentence end, as in `。」）`. A longer run is decoration."""


@dataclass(frozen=True, slots=True)
class Words:
    """Half-open spans of the words of a text, in order: int64 (n,) each.

    A word starts after white space, or right after wide (Chinese, Japanese) punctuation, but never with a
    mark that belongs to the character before it.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)


_BREAKS = (*map(ord, "\t\n\r"), 0x2028, 0x2029)
"""White space that takes no mark: a mark after it stands alone."""


def find_words(characters: Characters) -> Words:
    """Find the words of a text."""
    kinds = characters.kinds
    inside = np.zeros(len(kinds) + 2, dtype=np.bool_)
    np.not_equal(kinds, SPACE, out=inside[1:-1])
    if characters.points.dtype != np.uint8:
        inside[1:-1][_spaces_with_marks(characters)] = True
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    cuts = _wide_cuts(kinds)
    if len(cuts):
        edges = np.sort(np.concatenate((edges, cuts, cuts)))
    return Words(edges[0::2], edges[1::2])


def word_spans(text: str) -> list[tuple[int, int]]:
    """The words of a text as a list of half-open spans."""
    words = find_words(look_up(text))
    return list(zip(words.starts.tolist(), words.ends.tolist(), strict=True))


def hard_spans(text: str, start: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Cut [start, end) of `text` into spans of at most `limit` characters, also inside of words."""
    spans = []
    while end - start > limit:
        cut = before_cluster(text, start, start + limit)
        spans.append((start, cut))
        start = cut
    spans.append((start, end))
    return spans


def _spaces_with_marks(characters: Characters) -> NDArray[np.int64]:
    """Positions of the white space to which a mark belongs: the two are one grapheme cluster."""
    marks = np.flatnonzero(_is_mark(characters.kinds[1:]))
    spaces: NDArray[np.int64] = marks[characters.kinds[marks] == SPACE]
    taking = ~np.isin(characters.points[spaces], _BREAKS)
    return np.compress(taking, spaces)


def _is_mark(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_mark: NDArray[np.bool_] = kinds >= MARK
    return is_mark


def _wide_cuts(kinds: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions inside of a run without white space, right after wide punctuation and its closing marks."""
    ends = np.flatnonzero((kinds == WIDE_SENTENCE_END) | (kinds == WIDE_PAUSE)) + 1
    if not len(ends):  # most texts have none, and the rest takes longer than all else for a short one
        return ends
    padded = np.append(kinds, np.uint8(SPACE))
    for _ in range(_MAX_CLOSING_MARKS):
        ends = ends + _closes(padded[ends])
    following = padded[ends]
    return np.unique(ends[~_closes(following) & (following != SPACE) & ~_is_mark(following)])


def _closes(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    closes: NDArray[np.bool_] = (
        (kinds == CLOSER) | (kinds == SENTENCE_END) | (kinds == WIDE_SENTENCE_END) | (kinds == WIDE_PAUSE)
    )
    return closes
