"""Cuts a long text into consecutive segments, which SQL stores and workers read one by one."""

from __future__ import annotations

from collections.abc import Iterator

from embedfleet.chunking.characters import SENTENCE_ENDS, WIDE_SENTENCE_ENDS, before_cluster

_SEARCH_BACK_SHARE = 4
"""A cut is searched for in the last quarter before the target, so no segment is much smaller than that."""

_BOUNDARIES = (
    ("\n\n", "\r\n\r\n"),
    ("\n", "\r"),
    tuple(f"{end} " for end in SENTENCE_ENDS) + tuple(WIDE_SENTENCE_ENDS),
    (" ", "\t"),
)
"""Strongest first: blank line, line, sentence, word."""


def segment_spans(text: str, *, target_chars: int = 262_144) -> Iterator[tuple[int, int]]:
    """Half-open spans that cover `text` exactly and in order, each of 1 to `target_chars` characters.

    A span ends at the strongest boundary in the last quarter before the target, or at the target if there is
    none. It never ends between CR and LF, between the halves of a surrogate pair, or inside of a grapheme
    cluster, unless `target_chars` leaves no other place. An empty text has no spans.
    """
    if target_chars < 1:
        raise ValueError(f"target_chars must be at least 1, not {target_chars}")
    start = 0
    while len(text) - start > target_chars:
        end = _cut(text, start, start + target_chars)
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _cut(text: str, start: int, limit: int) -> int:
    earliest = limit - (limit - start) // _SEARCH_BACK_SHARE
    for boundaries in _BOUNDARIES:
        found = (
            (text.rfind(mark, max(earliest - len(mark), start), limit), len(mark)) for mark in boundaries
        )
        cut = max((at + length for at, length in found if at >= 0), default=0)
        if cut > start and not _inside_pair(text, cut):
            return cut
    cut = before_cluster(text, start, limit)
    return cut - 1 if _inside_pair(text, cut) and cut - 1 > start else cut


def _inside_pair(text: str, cut: int) -> bool:
    left, right = text[cut - 1], text[cut]
    return (left == "\r" and right == "\n") or (
        "\ud800" <= left <= "\udbff" and "\udc00" <= right <= "\udfff"
    )
