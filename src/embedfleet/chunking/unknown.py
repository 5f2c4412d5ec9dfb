"""Sums up what of a document's chunks the model does not know."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter

from embedfleet.account import Entry
from embedfleet.account_codes import Code
from embedfleet.chunking.chunker import Chunk
from embedfleet.visible_text import letters_in

_MOST_SCRIPTS = 4
"""How many of the unknown scripts an account names. It shows no text, as accounts are logged."""


class UnknownText:
    """What of the chunks added so far the model does not know. They must come in the document's order."""

    def __init__(self) -> None:
        self.tokens = 0
        """Unknown tokens of all chunks. Those of an overlap count in both chunks."""
        self.chars = 0
        """Characters of the text behind them that are not blank, each counted once."""
        self._scripts: Counter[str] = Counter()
        self._counted_to = 0

    def add(self, chunk: Chunk) -> None:
        self.tokens += len(chunk.unknown)
        for start, end in chunk.unknown:
            fresh = max(start, self._counted_to)
            self._counted_to = max(self._counted_to, end)
            piece = chunk.text[fresh - chunk.start : end - chunk.start] if fresh < end else ""
            self.chars += letters_in(piece)
            for character, count in Counter(piece).items():
                self._scripts[_script(character)] += count

    def entry(self, *, visible: int, in_no_chunk: int) -> Entry | None:
        """Return what the document's account says of it; None if the model knows all of the text.

        `visible`: the characters of the text that are not blank. `in_no_chunk`: how many of them are in no
        chunk, as the tokeniser makes no token of them.
        """
        chars = self.chars + in_no_chunk
        if not chars:
            return None
        scripts = [script for script, _ in self._scripts.most_common(_MOST_SCRIPTS)]
        places = (f"{percent(chars / visible)} of the text", *scripts)
        return Entry(Code.UNKNOWN_TEXT, max(self.tokens, 1), chars, places)


def percent(share: float) -> str:
    """A share, 0 to 1, for people. Only all is 100%, and only nothing is 0%."""
    if 0 < share < 0.01:
        return "under 1%"
    return f"{share if share == 1 else min(share, 0.99):.0%}"


@functools.lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """What the character is written in, by its Unicode name: "Thai", "CJK", "symbols"."""
    if unicodedata.category(character)[0] not in "LM":
        return "symbols"
    script = unicodedata.name(character, "unnamed").split()[0]
    return script if script == "CJK" else script.capitalize()
