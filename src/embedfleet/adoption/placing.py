"""Finds where the chunks of another system are in a document's text, or makes the text of them. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\S+")
_BETWEEN_CHUNKS = "\n\n"
# A shorter repetition at the border of two chunks may be chance: "the", a heading, a table's rule.
_SHORTEST_OVERLAP = 20
# No system repeats more than this between two chunks, and the search for it takes longer with its square.
_LONGEST_OVERLAP = 4_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as the source has it: its text, and its offsets in the document's text if there are any."""

    text: str
    start: int | None = None
    end: int | None = None


Span = tuple[int, int]
"""Half-open offsets of characters in a text."""


class Placing:
    """Finds chunks in one text. They must come in the document's order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._from = 0
        self._words: list[str] | None = None
        self._starts: list[int] = []
        self._ends: list[int] = []

    def find(self, piece: Piece) -> Span | None:
        """Return where the chunk is, at or after the start of the chunk that was found last. None: nowhere.

        A chunk whose words were joined again with other blanks is found too: the span has the blanks of the
        text.
        """
        found = self._at_its_offset(piece) or self._exactly(piece.text) or self._by_words(piece.text)
        if found is not None:
            self._from = found[0]
        return found

    def _at_its_offset(self, piece: Piece) -> Span | None:
        start = piece.start
        if start is None or start < self._from or not self._text.startswith(piece.text, start):
            return None
        return start, start + len(piece.text)

    def _exactly(self, piece: str) -> Span | None:
        start = self._text.find(piece, self._from)
        return None if start < 0 else (start, start + len(piece))

    def _by_words(self, piece: str) -> Span | None:
        wanted = piece.split()
        if not wanted:
            return None
        words = self._split()
        first = bisect_left(self._starts, self._from)
        while True:
            try:
                first = words.index(wanted[0], first)
            except ValueError:
                return None
            if words[first : first + len(wanted)] == wanted:
                return self._starts[first], self._ends[first + len(wanted) - 1]
            first += 1

    def _split(self) -> list[str]:
        if self._words is None:
            matches = list(_WORD.finditer(self._text))
            self._words = [match.group() for match in matches]
            self._starts = [match.start() for match in matches]
            self._ends = [match.end() for match in matches]
        return self._words


def assembled(pieces: Sequence[Piece]) -> tuple[str, list[Span]]:
    """Return a text that has all these chunks, in order, and where each is in it.

    What a chunk repeats of the one before comes once.
    """
    text = ""
    spans: list[Span] = []
    before: Piece | None = None
    for piece in pieces:
        shared = 0 if before is None else _shared(before, piece)
        if before is not None and not shared:
            text += _BETWEEN_CHUNKS
        start = len(text) - shared
        text += piece.text[shared:]
        spans.append((start, start + len(piece.text)))
        before = piece
    return text, spans


def _shared(before: Piece, piece: Piece) -> int:
    """Return how many characters at the end of the first chunk are the beginning of the second."""
    if before.end is not None and piece.start is not None:
        said = before.end - piece.start
        if said <= 0:
            return 0
        if said < len(piece.text) and before.text.endswith(piece.text[:said]):
            return said
    longest = min(len(before.text) - 1, len(piece.text) - 1, _LONGEST_OVERLAP)
    for length in range(longest, _SHORTEST_OVERLAP - 1, -1):
        if before.text.endswith(piece.text[:length]):
            return length
    return 0
