"""What all layouts of captions and transcripts have in common: cues, their times, and marks in their text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cue:
    """What is said from one second of the recording to another; both are None if no time is known.

    `text` may have several lines. `own_line`: it is a line of a song, which goes on in a line of its own.
    """

    start: float | None
    end: float | None
    text: str
    speaker: str | None = None
    own_line: bool = False


# Hours may be missing. Damaged files have blanks in their times, and a colon before the fraction.
_TIME = re.compile(r"(?:(\d{1,4})\s?:\s?)?(\d{1,3})\s?:\s?(\d{1,2})(?:\s?[.,:;]\s?(\d{1,9}))?\s*")


def seconds_of(written: str) -> float | None:
    """Return the seconds of a time such as 01:02:03,450 or 02:03.45; None if it is no time."""
    match = _TIME.fullmatch(written.strip())
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + (int(fraction) / 10 ** len(fraction) if fraction else 0)


_TAG_NAMES = "i|b|u|s|em|strong|strike|font|span|c|v|lang|ruby|rt|rp|p|div|center|small|big|sub|sup"
# A tag begins at once with its name, so that "a < b" stays. The length bounds the search for its end.
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:[.\s][^<>]{{0,300}})?/?>|<\d[\d:.,]{{3,14}}>", re.IGNORECASE)
_BREAK = re.compile(r"<br\b[^<>]{0,50}>|\\N", re.IGNORECASE)
_RUBY_TEXT = re.compile(r"<rt(?:\.[^<>]{0,100})?>([^<>]{0,200})(?:</rt>)?", re.IGNORECASE)
# Positions and styles that SubStation players understand also in SRT files: {\an8}, {\i1}.
_OVERRIDE = re.compile(r"\{\\[^{}]{0,500}\}")
_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{2,31});")
# Marks of direction and joiners of width zero that captions have around a line, and byte order marks.
_INVISIBLE = str.maketrans(dict.fromkeys("\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069\ufeff"))


def plain(text: str) -> str:
    """Return the text of a cue without tags and positions, with the characters that references stand for."""
    if "<" in text:
        text = _RUBY_TEXT.sub(r"(\1)", _BREAK.sub("\n", text))
        text = _TAG.sub("", text)
    if "{" in text:
        text = _OVERRIDE.sub("", text)
    return unescaped(text).translate(_INVISIBLE)


def unescaped(text: str) -> str:
    """Return the text with its character references (`&amp;`) replaced. A bare `&` stays."""
    if "&" not in text:
        return text
    return _REFERENCE.sub(lambda match: _character(match[0]), text)


def _character(reference: str) -> str:
    character = html.unescape(reference)
    return " " if character == "\xa0" else character.replace("\0", "")
