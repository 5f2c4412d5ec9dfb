"""Recognises UTF-16 and UTF-32 without a byte order mark, and texts of the 7-bit encodings of East Asia.

The bytes of these encodings do not tell by themselves: NUL may be half of a letter, and a text of ISO-2022-JP
is valid ASCII. So the text that they would give decides: it must consist of characters that are in common
use. For ideographs that is what the basic levels of the national standards list.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from functools import cache

from embedfleet.parsing import vendor_characters

_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")  # UTF-32 first: it is valid UTF-16 with NULs
_MIN_COMMON = 0.9  # texts have 98 %; a legacy text that is read as UTF-16 has at most 60 %
_MIN_BYTES = 6  # three letters: with fewer, chance is as likely
# Escapes to Japanese, Korean and Chinese, which terminals do not know. `~{` begins Chinese in HZ.
_ESCAPE = re.compile(rb"\x1b(?:\$(?:[@AB]|\([CDOPQ]|\)[CAG])|\(I)|~\{")
_SEVEN_BIT = ("iso2022_jp_ext", "iso2022_jp_2004", "iso2022_jp_2", "iso2022_kr", "hz")
# What texts of any alphabet have: Latin letters, accents, punctuation, arrows, lines and pictures.
_ANYWHERE = re.compile(
    "[\t\n\f\r -~\u00a0-\u036f\u1e00-\u1eff\u200b-\u203a\u20a0-\u20bf\u2100-\u22ff\u2500-\u27bf"
    "\ufb00-\ufb06\U0001f000-\U0001faff]"
)
_OTHER_ALPHABETS = re.compile(
    "[\u0370-\u06ff\u0900-\u0dff\u0e01-\u0eff\u1000-\u10ff\u1200-\u137f\u1780-\u17ff\u1f00-\u1fff]"
)
_EAST_ASIAN_SIGNS = re.compile("[\u2460-\u24ff\u3000-\u3017\u3041-\u30ff\u3200-\u33ff\uff01-\uff9f]")
_LEVEL_1 = (  # each national standard begins with the ideographs (or syllables) that are in common use
    ("gb2312", 0xB0, 0xD7),
    ("euc_jp", 0xB0, 0xCF),
    ("big5", 0xA4, 0xC6),
    ("euc_kr", 0xB0, 0xC8),
)


def wide_encoding(sample: bytes) -> str | None:
    """Return the form of UTF-16 or UTF-32 that the first bytes of a file are in; None if in none of them."""
    if len(sample) < _MIN_BYTES:
        return None
    shares = {name: _share_of_common(_decoded_start(sample, name)) for name in _WIDE}
    best = max(_WIDE, key=lambda name: shares[name])
    return best if shares[best] >= _MIN_COMMON else None


def seven_bit_encoding(sample: bytes) -> str | None:
    """Return the encoding of a text that is East Asian though all its bytes are ASCII; None if it is not."""
    if _ESCAPE.search(sample) is None:
        return None
    for name in _SEVEN_BIT:
        text = _decoded_start(sample, name, errors=vendor_characters.ELSE_RAISE)
        foreign = "".join(char for char in text if char > "\x7f")
        if foreign and _share_of_common(foreign) >= _MIN_COMMON:
            return name
    return None


def is_rare(char: str) -> bool:
    """Return whether texts hardly ever have this character, of whatever language they are."""
    return _kind(char) == "rare"


def _decoded_start(sample: bytes, name: str, errors: str = "strict") -> str:
    """The text of a sample that may end within a character; empty if the sample is not in the encoding."""
    try:
        return codecs.getincrementaldecoder(name)(errors).decode(sample)
    except UnicodeDecodeError:
        return ""


def _share_of_common(text: str) -> float:
    """The share of the characters that are in common use. Of alphabets, only the most used one counts."""
    kinds = Counter(_kind(char) for char in text)
    common = kinds.pop("", 0) + kinds.pop("east", 0)
    rare = kinds.pop("rare", 0)
    alphabet = max(kinds.values(), default=0)
    total = common + rare + sum(kinds.values())
    return (common + alphabet) / total if total else 0.0


@cache
def _kind(char: str) -> str:
    """What counts for a character: "" for what all texts have, the name of its alphabet, "east" or "rare"."""
    if _ANYWHERE.match(char):
        return ""
    if _OTHER_ALPHABETS.match(char):
        return f"alphabet {ord(char) >> 8}"  # an alphabet is within a block of 256
    return "east" if _EAST_ASIAN_SIGNS.match(char) or _is_common_ideograph(char) else "rare"


def _is_common_ideograph(char: str) -> bool:
    return any(_in_level(char, *level) for level in _LEVEL_1)


def _in_level(char: str, codec: str, first: int, last: int) -> bool:
    try:
        lead = char.encode(codec)[0]
    except UnicodeEncodeError:
        return False
    return first <= lead <= last
