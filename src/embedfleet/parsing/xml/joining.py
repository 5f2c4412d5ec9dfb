"""Joins pieces of text and the breaks between them."""

from __future__ import annotations

import re
from collections.abc import Callable

LINE, PARAGRAPH = 1, 2
"""Breaks, by how many line feeds they are."""
_SPACES = re.compile(r"\s+")


class Prefix(str):
    """What begins a line: the text behind it follows on the same line."""


class Verbatim(str):
    """Text whose white space stays."""


class Joiner:
    """Joins pieces of text and breaks; of several breaks the strongest counts; white space is one space."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._break = 0
        self._glued = self._begun = False
        self._space = False

    def join(self, pieces: list[str | int]) -> None:
        """Write the pieces."""
        written: list[str] = []
        for piece in pieces:
            if isinstance(piece, int):
                self._break = 0 if self._glued else max(self._break, piece)
            elif piece:
                self._add(piece, written)
        self._write("".join(written))

    def _add(self, piece: str, written: list[str]) -> None:
        text = piece if isinstance(piece, Verbatim) else _SPACES.sub(" ", piece)
        if not text.strip():
            self._space = True
            return
        if self._break and self._begun:
            written.append("\n" * self._break)
        elif (self._space or text[0] == " ") and self._begun and not self._break and not self._glued:
            written.append(" ")
        self._break, self._begun = 0, True
        body = text if isinstance(piece, Verbatim) else text.strip(" ")
        written.append(body + " " if isinstance(piece, Prefix) else body)
        self._glued = isinstance(piece, Prefix)
        self._space = not isinstance(piece, (Prefix, Verbatim)) and text[-1] == " "
