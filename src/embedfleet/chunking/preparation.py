"""Writes texts in characters that a model's tokeniser knows, where that loses nothing.

Ligatures (`ﬁ`), styled letters (`𝐀`, `Ａ`) and letters with separate accents mean the same as the plain ones,
and models have mostly seen those. A symbol that the tokeniser does not know is set apart from the word beside
it, which some tokenisers would not know then either. Tokenisers differ in how much of this they do
themselves. Only what the model reads is prepared: stored texts and offsets stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

PREPARATION = "plain 1"
"""The name of these rules, which is part of the identity of what they change. Another set of rules must have
another name."""

_SAME_LETTERS = (
    *((0xFB00, 0xFDFF), (0xFE70, 0xFEFC), (0x1D400, 0x1D7FF)),
    *((0xFF10, 0xFF19), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A), (0xFF66, 0xFF9F), (0xFFA1, 0xFFDC)),
)
"""Ligatures, presentation forms, mathematical alphabets, letters and digits of another width: they are
replaced even if the tokeniser knows them, as it has hardly seen them. Others only if it does not."""

_IN_FRONT = {"<super>": "^", "<sub>": "_", "<fraction>": " "}
"""What keeps a raised or lowered character, or a fraction, apart from the number before it."""

_FIRST_SYMBOL = 0x2190
"""Below are letters, and symbols that every vocabulary has; here begin arrows, shapes and pictures."""

_LAST_ASCII = 0x7F

_TAG = re.compile(r"<\w+>")

KnowsAll = Callable[[Sequence[str]], list[bool]]
"""Says for each text whether the tokeniser knows all of it: no token is unknown or a single byte."""


class Preparation:
    """Prepares texts for one tokeniser. Safe to call from several threads."""

    def __init__(self, knows_all: KnowsAll, *, by_word: bool) -> None:
        """`by_word`: the tokeniser does not know a word if it does not know one of its characters."""
        self._knows_all = knows_all
        self._by_word = by_word
        # Characters are looked at when they are first met: there are thousands, and a text has few of them.
        self._seen: set[str] = set()
        self._replacements: dict[int, str] = {}

    def __call__(self, texts: Sequence[str]) -> Sequence[str]:
        """Return the texts as the tokeniser should read them; the very same texts if nothing is to be done.

        What is prepared of a text does not depend on where it is cut, as long as no grapheme cluster is.
        """
        wide = "".join([text for text in texts if not text.isascii()])
        if not self.changes(wide):
            return texts
        return [text if text.isascii() else self._prepared(text) for text in texts]

    def changes(self, text: str) -> bool:
        """Whether the text as it is prepared is another one."""
        if text.isascii():
            return False
        points = _points(text)
        has_symbols = self._by_word and points.max() >= _FIRST_SYMBOL
        if unicodedata.is_normalized("NFKC", text) and not has_symbols:
            return False
        is_composed = unicodedata.is_normalized("NFC", text)
        if not is_composed:
            points = _points(unicodedata.normalize("NFC", text))
        # Mostly a handful of thousands: a set of all characters of the text would take longer than all else.
        wide = np.unique(points[points > _LAST_ASCII]).tolist()
        self._meet(set(map(chr, wide)))
        return not is_composed or not self._replacements.keys().isdisjoint(wide)

    def origins(self, text: str) -> list[int] | None:
        """Return the character of `text` from which each character of the prepared text comes; None if they
        cannot be told apart. Prepare the text first."""
        if not unicodedata.is_normalized("NFC", text):
            return None
        return [i for i, one in enumerate(text) for _ in range(len(self._replacements.get(ord(one), one)))]

    def _prepared(self, text: str) -> str:
        return unicodedata.normalize("NFC", text).translate(self._replacements)

    def _meet(self, characters: set[str]) -> None:
        fresh = characters - self._seen
        if not fresh:
            return
        plain = {one: spelling for one in fresh if (spelling := _plain(one)) is not None}
        doubtful = [one for one in plain if not _is_same_letter(one)]
        tried = [text for one in doubtful for text in (one, f"a{one}a", plain[one])]
        known = self._knows_all(tried)
        for i, one in enumerate(doubtful):
            alone, inside, spelt = known[3 * i : 3 * i + 3]
            if (alone and inside) or not spelt:
                del plain[one]
        symbols = [one for one in fresh.difference(plain) if self._by_word and _is_symbol(one)]
        inside_word = self._knows_all([f"a{one}a" for one in symbols])
        plain |= {one: f" {one} " for one, known in zip(symbols, inside_word, strict=True) if not known}
        self._replacements.update({ord(one): spelling for one, spelling in plain.items()})
        self._seen |= fresh  # last: until then, other threads look at the characters too


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _is_symbol(character: str) -> bool:
    return ord(character) >= _FIRST_SYMBOL and unicodedata.category(character) in ("So", "Sm", "Sc", "Cn")


def _is_same_letter(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _SAME_LETTERS)


def _plain(character: str) -> str | None:
    """The character in plain ones, by Unicode's compatibility mapping; None if it is plain, or if the mapping
    would lose what it says."""
    plain = unicodedata.normalize("NFKC", character)
    if plain == character or all(unicodedata.category(one)[0] in "ZM" for one in plain):
        return None
    found = _TAG.match(unicodedata.decomposition(character))
    tag = found[0] if found else ""
    if tag == "<circle>" and plain.isdigit():  # two of them in a row are two numbers
        return f" {plain} "
    return _IN_FRONT.get(tag, "") + plain.replace("\u2044", "/")
