"""SubRip (.srt) and WebVTT (.vtt): cues with a time line `00:00:01,000 --> 00:00:02,500` above their text.

Every line between two time lines is text of the first one, also behind a blank line. So a file that is
damaged loses no text. Only the numbers and identifiers above a time line, and what WebVTT calls comments and
styles, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.speech.cues import Cue, plain, seconds_of, unescaped
from embedfleet.visible_text import letters_in

_CLOCK = r"\d[\d:.,; ]{0,20}"
_ARROW = re.compile(r"\s*(?:(?:[-\u2013\u2014=]\s?){1,3}>|\u2192)\s*")
_RIGHT = re.compile(rf"\s*({_CLOCK})(.*)", re.DOTALL)
_FRACTION = re.compile(r"\d[.,]\d{1,3}\b|\d ?[.,:;] ?\d{3}\b")
_LONGEST_TIME = 16  # characters: "00:00:00,000" with some blanks
_SETTING = re.compile(r"[A-Za-z][\w-]*:\S+")
_COMMENT_BLOCK = re.compile(r"(NOTE|STYLE|REGION)(?:[ \t]|$)")
_VOICE = re.compile(r"<v(?:\.[\w.-]{0,100})?[ \t]+([^<>]{1,200})>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _TimeLine:
    start: float | None
    end: float | None
    text: str
    """What stands behind the times and is no setting: text that has lost its line break."""


def parse_arrow_captions(text: str, draft: Draft) -> Iterator[Cue]:
    """Yield the cues in the order of the file."""
    lines = text.splitlines()
    is_vtt = bool(lines) and lines[0].lstrip("\ufeff").startswith("WEBVTT")
    if is_vtt:
        lines = _without_comments(lines, draft)
    marks = [(i, mark) for i, line in enumerate(lines) if (mark := _time_line(line, _line(lines, i - 1)))]
    bodies = _bodies(lines, [i for i, _ in marks], is_vtt, draft)
    yield from _spoken(None, None, next(bodies))
    before: tuple[float | None, float | None] = (None, None)
    for (i, mark), body in zip(marks, bodies, strict=True):
        before = _times(mark, i, before, draft)
        yield from _spoken(*before, f"{mark.text}\n{body}")


def _line(lines: Sequence[str], index: int) -> str:
    return lines[index].strip() if 0 <= index < len(lines) else ""


def _time_line(line: str, before: str) -> _TimeLine | None:
    """The times of a time line; None if it is none. One that is damaged has None for what is not readable.

    `before` is the line above: below the number of a cue, also a line without a readable time is one.
    """
    if ">" not in line and "\u2192" not in line:
        return None
    parts = _ARROW.split(line, maxsplit=1)
    if len(parts) != 2:
        return None
    start, right = seconds_of(parts[0]), _RIGHT.match(parts[1])
    end = seconds_of(right[1]) if right else None
    is_sure = ("-->" in line and ":" in line and before.isdecimal()) or _FRACTION.search(line)
    if start is None and end is None:
        return _TimeLine(None, None, "") if is_sure and before.isdecimal() else None
    if (start is None or end is None or "-->" not in line) and not is_sure:
        return None
    if start is None and len(parts[0]) > _LONGEST_TIME:
        return None  # a sentence that ends with an arrow and a time
    rest = right[2] if right else parts[1]
    is_text = (right or ":" not in rest) and not all(map(_SETTING.fullmatch, rest.split()))
    return _TimeLine(start, end, rest if is_text else "")


def _times(
    mark: _TimeLine, line: int, before: tuple[float | None, float | None], draft: Draft
) -> tuple[float | None, float | None]:
    """The times of a cue. What is not readable is noted; without a start, it has those of the cue before."""
    if mark.start is not None and mark.end is not None and mark.end >= mark.start:
        return mark.start, mark.end
    draft.note(Code.SPEECH_TIME, place=f"line {line + 1}")
    return before if mark.start is None else (mark.start, None)


def _bodies(lines: Sequence[str], marks: Sequence[int], is_vtt: bool, draft: Draft) -> Iterator[str]:
    """The text before the first time line, and the text below each, without what announces the next one."""
    number: int | None = None
    begin = 0
    for mark in marks:
        end, number = _announced(lines, begin, mark, number)
        if is_vtt and end == mark and _line(lines, mark - 1) and not _line(lines, mark - 2) and mark > begin:
            end = mark - 1
            draft.note(Code.SPEECH_COMMENT, chars=letters_in(lines[end]))
        yield "\n".join(lines[begin:end])
        begin = mark + 1
    yield "\n".join(lines[begin:])


def _announced(lines: Sequence[str], begin: int, mark: int, number: int | None) -> tuple[int, int | None]:
    """Where the text above a time line ends, and the cue's number. `number`: that of the cue before it.

    The line above is the number of the cue. If blank lines are between them, or no blank line is above the
    number, then it is one only if it continues the numbers.
    """
    last = mark - 1
    while last >= begin and not lines[last].strip():
        last -= 1
    if last < begin or not (written := lines[last].strip()).isdecimal() or len(written) > 9:
        return mark, number
    found = int(written)
    is_next = found == number + 1 if number is not None else found in (0, 1)
    is_apart = last == begin or not lines[last - 1].strip()
    if is_next or (last == mark - 1 and is_apart):
        return last, found
    return mark, number


def _without_comments(lines: Sequence[str], draft: Draft) -> list[str]:
    """The lines of a WebVTT file; those of its head, comments and styles are blank."""
    kept: list[str] = []
    heading = lines[0].lstrip("\ufeff").removeprefix("WEBVTT").strip(" \t-")
    draft.title = unescaped(heading) or draft.title
    in_comment, after_blank = True, False
    for line in ["", *lines[1:]]:
        is_blank = not line.strip()
        if is_blank:
            in_comment = in_comment and not kept
        elif "-->" in line:
            in_comment = False
        elif after_blank and _COMMENT_BLOCK.match(line):
            in_comment = True
        if in_comment and not is_blank:
            draft.note(Code.SPEECH_COMMENT, chars=letters_in(line))
        kept.append("" if in_comment else line)
        after_blank = is_blank and len(kept) > 1
    return kept


def _spoken(start: float | None, end: float | None, body: str) -> Iterator[Cue]:
    """The cue, or one for each voice in it."""
    voices = _VOICE.split(body)
    if voices[0].strip():
        yield Cue(start, end, plain(voices[0]))
    for speaker, said in zip(voices[1::2], voices[2::2], strict=True):
        yield Cue(start, end, plain(said), unescaped(" ".join(speaker.split())))
