"""Texts that show whether two tokenisers agree, and whether cutting a text changes its tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

_EDGES = (
    *(
        "word",
        "Wort\xfc",
        "3",
        "3.14",
        ".",
        "...",
        "(",
        "\u201cq\u201d",
        "don't",
        "-",
        "_",
        "[",
        "]",
        "##",
        "##ing",
    ),
    *("\u4e2d\u6587", "\u3042\u3044", "\ud55c\uad6d", "\u0939\u093f", "\u0e44\u0e17\u0e22", "\U0001f600"),
    *("\u0301e", "e\u0301", "\u200b", "\ufeffx", "\x0c", "\x01", "\ufffd", "x" * 101),
)
"""Beginnings and endings of atoms: one of each kind that a tokeniser may treat differently."""

_GAPS = (" ", "  ", "\t", "\n", "\r\n", "\n\n    ", "\xa0", "\u2003", "\u2028", "\u3000")
"""White space after which an atom may begin."""

_WIDE_ENDS = (
    *("\u4e2d\u3002", "\u3042\uff01", "\u4e2d\uff1f\u300d", "\uff76\uff9e\uff61"),
    *("\u4e2d\uff0c", "\u3042\u3001", "x\uff1b", "\uff1a\uff09"),
)
"""Endings of atoms after which the next atom may begin without white space."""

_LETTERS = ("a", "\xe9", "e\u0301", "\u4e2d", "\u3042", "\ud55c", "\u0915\u094d", "\U0001f600", "1")
_WORD_LENGTHS = (49, 50, 99, 100, 101, 200, 1000)
"""Around 100 characters: WordPiece makes an unknown token of a longer word."""

_SENTENCES = (
    "",
    " \t\r\n ",
    "The naïve café's co-operative costs €3,141.59 (approx.) — “really”?!",
    "İstanbul ıssız; Straße ẞ; ŉ ǰ ΐ ΰ; ΣΊΣΥΦΟΣ; Ǆ ǆ; ﬁﬂ Å",
    "print(f'{x!r:>10}')  # a\\b\t\x00\x01\x1f\x0b\x0c\x85\u2028\u2029",
    "[CLS] [SEP] [MASK] [UNK] [PAD] <s> </s> <unk> <mask> <|endoftext|>",
    "https://example.com/a?b=c&d=%20#e user@example.com 2001:db8::1 0xDEADBEEF 1e-10",
    "日本語の文。「引用」！中文，标点；ＡＢ \uff11\uff12 한국어",
    "مرحبا؟ שָׁלוֹם नमस्ते। สวัสดี tiếng Việt",
)


_CHARACTERS_PER_TEXT = 64
"""The reference tokenises a few long texts faster than many short ones."""


def disputed_texts(characters: Sequence[str]) -> list[str]:
    """Texts on which tokenisers differ if they differ at all, with each of `characters` inside of a word."""
    pairs = list(itertools.product(_EDGES, repeat=2))
    words = [f"a{character}b" for character in characters]
    marked = [f"{character}\u0301{character}" for character in characters[::4]]
    return [
        *_SENTENCES,
        *(letter * length for letter in _LETTERS for length in _WORD_LENGTHS),
        *(left + right for left, right in pairs),
        *(f"{left} {right}" for left, right in pairs),
        *(" ".join(run) for run in _runs(words + marked)),
    ]


def _runs(words: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(words), _CHARACTERS_PER_TEXT):
        yield words[start : start + _CHARACTERS_PER_TEXT]


def cuts(added_tokens: list[str]) -> Iterator[tuple[str, str, str]]:
    """(left, gap, right) for every kind of place where one atom ends and the next one begins."""
    edges = [*_EDGES, *added_tokens]
    yield from itertools.product(edges, _GAPS, edges)
    # An atom with a wide ending includes the closing marks after it, so the next atom begins with none.
    openings = [edge for edge in edges if edge[0] not in ".]_"]
    yield from itertools.product(_WIDE_ENDS, [""], openings)
