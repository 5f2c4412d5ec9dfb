"""Guesses the encoding of a text that declares none.

Two detectors are asked that were made apart from each other: `chardet` compares bigrams with those of 49
languages, `chardetng` (that of Firefox) weighs letters and knows which encodings the web has. Where both read
the same text, they are right in 99 of 100 cases. Where they differ, `chardet` is right more often, unless its
text breaks rules that hold in all languages. `docs/encodings.md` has the measurement.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

import chardet
from chardetng_py import EncodingDetector

from embedfleet.parsing import vendor_characters
from embedfleet.parsing.alphabets import share_of_unlikely_letters
from embedfleet.parsing.charset_labels import known_codec

# In use for text files. The mainframe's are none of these; of codecs that differ in signs only, one is here;
# and those that are so rare that they are rather mistaken for others (Baltic DOS, Turkish Macintosh).
_CANDIDATES = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("cp932", "cp949", "euc_kr", "gb18030", "big5hkscs", "euc_jis_2004", "shift_jis_2004"),
    *("koi8-r", "koi8-u", "kz1048", "mac-roman", "mac-latin2", "mac-cyrillic"),
    *("iso8859-1", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7"),
    *("iso8859-8", "iso8859-9", "iso8859-13", "iso8859-14", "iso8859-15"),
    *("cp437", "cp737", "cp850", "cp852", "cp855", "cp857", "cp862", "cp866"),
)
# What to decode with, best first. A codec of a list reads what the one before it cannot.
_DECODED_AS = {
    "iso8859-1": ("cp1252", "iso8859-1"),
    "iso8859-9": ("cp1254", "iso8859-9"),
    "euc_kr": ("cp949",),
    "shift_jis_2004": ("cp932", "shift_jis_2004"),
    "euc_jis_2004": ("euc_jp", "euc_jis_2004"),
    "big5hkscs": ("big5hkscs", "cp950"),
}
# Tags say nothing of the language, and `chardet` would believe what they declare. No character of two bytes
# has one of these brackets.
_TAG = re.compile(rb"<[^<>]{1,500}>")
_WESTERN, _DOS = "cp1252", "cp850"
_MIN_MORE_LIKELY = 0.03  # below, the unlikely letters of two readings do not tell which one is right
# How much surer of a rare encoding `chardet` must be than of a common one that `chardetng` sees.
_MIN_LEAD_OF_RARE = {("iso8859-4", "cp1252"): 1.5, ("mac-cyrillic", "cp1251"): 1.01}
_SIGNS = frozenset("’‘“”–—…•°©®™£€§±½¼¾²³×\xa0")
# Where these signs are at a word like this, they are letters in an encoding of DOS: "pi—" is "più".
_LETTER_OF_DOS = re.compile("[^\\W\\d_](?:[–—…](?![^\\W\\d_])|[‘“€])")
_MIN_CHARS_PER_SIGN = 5
# When a guess is in no doubt. With these limits, 1 of 300 guesses without doubt is wrong, as measured.
_MIN_LETTERS, _MIN_IDEOGRAPHS = 3, 6
_EAST_ASIA = "\u2e80"
_MAX_UNLIKELY = 0.1  # right readings have fewer letters that break rules, such as those of foreign names
_MIN_UNLIKELY_OF_OTHER = 0.5
_MIN_CONFIDENCE, _MIN_LEAD = 0.2, 1.5


@dataclass(frozen=True, slots=True)
class Guess:
    """Codecs that read the sample alike, best first; the next likely one; whether there is no doubt."""

    codecs: tuple[str, ...]
    runner_up: str | None
    is_sure: bool


@dataclass(frozen=True, slots=True)
class _Reading:
    codec: str
    text: str
    confidence: float = 0.0

    @property
    def unlikely(self) -> float:
        return share_of_unlikely_letters(self.text)


def guess_encoding(sample: bytes) -> Guess:
    """Guess the encoding of bytes that are not UTF-8. They may end within a character."""
    without_tags = _TAG.sub(b" ", sample)
    sample = sample if without_tags.isascii() else without_tags
    if signs := _signs(sample):
        return Guess((_WESTERN,), _DOS, is_sure=signs >= _MIN_LETTERS)
    readings = _readings(sample)
    by_letters = _reading_by_letters(sample, readings)
    if not readings:
        best = by_letters or _Reading(_WESTERN, "")
        return Guess((best.codec,), None, is_sure=False)
    by_bigrams = readings[0]
    if by_letters is None or by_letters.text == by_bigrams.text:
        best, other = by_bigrams, next((one for one in readings if one.text != by_bigrams.text), None)
    elif _is_rather(by_letters, by_bigrams):
        best, other = by_letters, by_bigrams
    else:
        best, other = by_bigrams, by_letters
    agree = by_letters is not None and by_letters.text == by_bigrams.text
    is_sure = _is_clear(best) and (agree or (other is not None and _wins(best, other)))
    alike = [one.codec for one in readings if one.text == best.text]
    return Guess(tuple(dict.fromkeys([best.codec, *alike])), other.codec if other else None, is_sure)


def _readings(sample: bytes) -> list[_Reading]:
    """The texts that the sample may be, the likeliest first, as `chardet` judges."""
    found = chardet.detect_all(
        sample,
        ignore_threshold=True,
        max_bytes=max(1, len(sample)),
        compat_names=False,
        include_encodings=_CANDIDATES,
    )
    readings = []
    for one in found:
        name = one["encoding"] or _WESTERN
        for codec in _DECODED_AS.get(name, (name,)):
            if (text := _decoded(sample, codec)) is not None:
                readings.append(_Reading(codec, text, one["confidence"]))
    return readings


def _reading_by_letters(sample: bytes, readings: list[_Reading]) -> _Reading | None:
    detector = EncodingDetector()
    detector.feed(sample, last=False)
    codec = known_codec(detector.guess(tld=None, allow_utf8=False)) or _WESTERN
    text = _decoded(sample, codec)
    if text is None:
        return None
    confidence = max((one.confidence for one in readings if one.text == text), default=0.0)
    return _Reading(codec, text, confidence)


def _decoded(sample: bytes, codec: str) -> str | None:
    """The text of a sample that may end within a character; None if the codec cannot read the sample."""
    try:
        text = codecs.getincrementaldecoder(codec)(vendor_characters.ELSE_RAISE).decode(sample)
    except UnicodeDecodeError:
        return None
    return unicodedata.normalize("NFC", text)  # Vietnamese has accents as characters of their own


def _is_rather(this: _Reading, that: _Reading) -> bool:
    """Whether this reading, which has the lower score, is nevertheless the better one."""
    lead = _MIN_LEAD_OF_RARE.get((that.codec, this.codec), 0.0)
    return this.unlikely + _MIN_MORE_LIKELY < that.unlikely or this.confidence * lead > that.confidence


def _is_clear(reading: _Reading) -> bool:
    """Whether the text has enough letters to judge by, and these are as in any language."""
    enough = _MIN_IDEOGRAPHS if max(reading.text) >= _EAST_ASIA else _MIN_LETTERS
    return _foreign(reading) >= enough and reading.unlikely <= _MAX_UNLIKELY


def _foreign(reading: _Reading) -> int:
    return sum(char > "\x7f" for char in reading.text)


def _signs(sample: bytes) -> int:
    """How many quotes, dashes and signs there are, if the text has nothing else that is not ASCII; else 0."""
    text = _decoded(sample, _WESTERN) or ""
    count = sum(char in _SIGNS for char in text)
    if any(char > "\x7f" and char not in _SIGNS for char in text) or share_of_unlikely_letters(text):
        return 0
    return 0 if _LETTER_OF_DOS.search(text) or count * _MIN_CHARS_PER_SIGN > len(text) else count


def _wins(best: _Reading, other: _Reading) -> bool:
    """Whether the detectors differ, but the better reading is far ahead of the other one."""
    is_likelier = best.confidence >= max(_MIN_CONFIDENCE, other.confidence * _MIN_LEAD)
    return is_likelier or other.unlikely >= _MIN_UNLIKELY_OF_OTHER
