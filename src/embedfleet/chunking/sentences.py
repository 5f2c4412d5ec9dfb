"""Finds the ends of sentences: one rule for many languages, in time linear in the length of the text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import CLOSER, LOWER, SENTENCE_END, WIDE_SENTENCE_END, Characters
from embedfleet.chunking.words import Words

_MAX_CLOSERS = 3
"""How many quotes and brackets may be between the full stop and the white space, as in `(He said "no.")`."""

_LONGEST_ABBREVIATION = 8

_OPENERS = "([{\"'\u2018\u201c\u201e\xab\u2039*_"

_ABBREVIATIONS_BY_LANGUAGE = {
    "titles": "mr mrs ms messrs dr prof st jr sr rev gen col sgt capt lt hon gov sen rep",
    "months": "jan feb mar apr jun jul aug sep sept oct nov dec",
    "English": "e.g i.e eg ie vs cf al viz approx dept est inc ltd co corp univ assn bros ave blvd rd mt ft",
    "German": "z.b bzw usw ca d.h u.a s.o vgl ggf inkl exkl evtl sog hr fr str bspw",
    "French": "m mm mme mlle mgr p.ex env",
    "Spanish": "sra srta dra ud uds ee.uu",
    "Italian": "sig dott ing avv",
    "Dutch": "bijv dhr mevr",
    "Russian": "т.е т.д т.п г гг см стр им ул",
}
_ABBREVIATIONS = frozenset(" ".join(_ABBREVIATIONS_BY_LANGUAGE.values()).split())
"""A full stop after one of these never ends a sentence."""

_NUMBERED = "no nos nr n\xba fig figs eq eqs sec p pp p\xe1g vol ch chap art ed abb bd"
_BEFORE_NUMBERS = frozenset(_NUMBERED.split())
"""A full stop after one of these does not end a sentence if a number follows."""

_MAX_LIST_NUMBER_DIGITS = 3


def sentence_ends(
    characters: Characters, words: Words, first_in_line: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """bool (n_words,): true for a word that ends a sentence.

    Such a word ends in a full stop or another sentence end, perhaps followed by closing quotes. The next word
    does not begin in lower case. The word is no abbreviation, no initial, and no list number at the start of
    a line (`first_in_line`: bool (n_words,)).
    """
    kinds = characters.kinds
    last, closing_kind = _last_before_closers(kinds, words)
    ends: NDArray[np.bool_] = closing_kind == WIDE_SENTENCE_END
    stops = np.flatnonzero(closing_kind == SENTENCE_END)
    if len(stops):
        following = np.append(kinds[words.starts[1:]], np.uint8(0))
        stops = stops[following[stops] != LOWER]
        ends[stops] = True
        short = stops[last[stops] - words.starts[stops] <= _LONGEST_ABBREVIATION]
        ends[_not_ending(characters.text, words, short, last, first_in_line)] = False
    return ends


def _last_before_closers(
    kinds: NDArray[np.uint8], words: Words
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """For each word: the position of its last character that is no closer, and the kind of that character."""
    last = words.ends - 1
    kind = kinds[last]
    closed = np.flatnonzero(kind == CLOSER)
    for _ in range(_MAX_CLOSERS):
        closed = closed[last[closed] > words.starts[closed]]
        last[closed] -= 1
        kind[closed] = kinds[last[closed]]
        closed = closed[kind[closed] == CLOSER]
    return last, kind


def _not_ending(
    text: str,
    words: Words,
    candidates: NDArray[np.int64],
    last: NDArray[np.int64],
    first_in_line: NDArray[np.bool_],
) -> list[int]:
    """The candidates (short words that end in a full stop) that do not end a sentence."""
    following = np.append(words.starts[1:], len(text))
    rows = zip(
        candidates.tolist(),
        words.starts[candidates].tolist(),
        last[candidates].tolist(),
        following[candidates].tolist(),
        first_in_line[candidates].tolist(),
        strict=True,
    )
    return [
        word
        for word, start, stop, after, first in rows
        if text[stop] == "." and _is_abbreviation(text[start:stop], text[after : after + 1], first)
    ]


def _is_abbreviation(word: str, next_character: str, first_in_line: bool) -> bool:
    """Whether `word`, given without its full stop, is an abbreviation, an initial or a list number."""
    word = word.lstrip(_OPENERS)
    if len(word) == 1 and word.isupper():
        return True
    if word.isdigit():
        return first_in_line and len(word) <= _MAX_LIST_NUMBER_DIGITS
    lowered = word.lower()
    return lowered in _ABBREVIATIONS or (lowered in _BEFORE_NUMBERS and next_character.isdigit())
