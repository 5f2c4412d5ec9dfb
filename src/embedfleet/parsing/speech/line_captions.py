"""Captions with the time in the line itself: lyrics (.lrc), SubViewer (.sbv), MicroDVD (.sub)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.speech.cues import Cue, plain, seconds_of
from embedfleet.visible_text import letters_in

_LYRICS_TIME = re.compile(r"\[(\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?)\]")
_LYRICS_TAG = re.compile(r"\[([A-Za-z#][\w ]{0,20}):([^\]]*)\]\s*")
_SUBVIEWER_LINE = re.compile(r"\s*(\d{1,2}:\d{2}:\d{2}[.,]\d{1,3})\s*,\s*(\d{1,2}:\d{2}:\d{2}[.,]\d{1,3})\s*")
_SUBVIEWER_TAG = re.compile(r"\[[A-Z][A-Za-z ]{1,20}\].*")
_FRAMES_LINE = re.compile(r"\{(\d{1,8})\}\{(\d{0,8})\}(.*)")
_FRAMES_FIRST = re.compile(r"\ufeff?\s*\{\d{1,8}\}\{\d{0,8}\}")
_FRAMES_STYLE = re.compile(r"\{[A-Za-z]:[^{}]*\}")
_FRAMES_A_SECOND = 23.976  # of a film on disc; files for another rate say so in their first line
_HEAD_CHARS = 4096  # the tags at the start of a file are far shorter
_LINE_SECONDS = 10.0  # a line of a song is shown until the next one, but hardly longer than this


def looks_like_lyrics(text: str) -> bool:
    """Whether the first line that is no tag has a time in brackets."""
    line = _first_line(text, _LYRICS_TAG)
    return _LYRICS_TIME.match(line) is not None


def looks_like_subviewer(text: str) -> bool:
    """Whether the first line that is no tag has two times with a comma in between."""
    return _SUBVIEWER_LINE.fullmatch(_first_line(text, _SUBVIEWER_TAG)) is not None


def _first_line(text: str, tag: re.Pattern[str]) -> str:
    """The first line that is neither blank nor a tag; "" if there is none among the first ones."""
    lines = (line.strip("\ufeff \t") for line in text[:_HEAD_CHARS].splitlines())
    return next((line for line in lines if line and not tag.fullmatch(line)), "")


def looks_like_frames(text: str) -> bool:
    return _FRAMES_FIRST.match(text) is not None


def parse_lyrics(text: str, draft: Draft) -> list[Cue]:
    """Return the lines by their time. A refrain that has several times is said several times."""
    timed: list[tuple[float, str]] = []
    untimed: list[Cue] = []
    shift = 0.0
    for line in text.splitlines():
        if tag := _LYRICS_TAG.fullmatch(line.lstrip("\ufeff")):
            name, value = tag[1].lower(), tag[2].strip()
            if name == "offset" and re.fullmatch(r"[+-]?\d{1,7}", value):
                shift = int(value) / 1000
            else:
                untimed += _lyrics_tag(name, value, draft)
            continue
        times = _LYRICS_TIME.findall(line)
        said = plain(_LYRICS_TIME.sub("", line)).strip()
        timed += [(max(0.0, (seconds_of(time) or 0.0) - shift), said) for time in times]
        if said and not times:
            untimed.append(Cue(None, None, said, own_line=True))
    timed.sort(key=lambda line: line[0])
    ends = [start for start, _ in timed[1:]] + [timed[-1][0] if timed else 0.0]
    lines = zip(timed, ends, strict=False)
    return untimed + [Cue(at, min(end, at + _LINE_SECONDS), said, own_line=True) for (at, said), end in lines]


def _lyrics_tag(name: str, value: str, draft: Draft) -> list[Cue]:
    """The performer as a line of the text; the title is the document's; the rest is about the file."""
    if name == "ti" and value:
        draft.title = value
    elif name in ("ar", "al", "au") and value:
        return [Cue(None, None, value, own_line=True)]
    elif value:
        draft.note(Code.SPEECH_COMMENT, chars=letters_in(value))
    return []


def parse_subviewer(text: str, draft: Draft) -> Iterator[Cue]:
    """Yield the cues. `[br]` in their text is the end of a line."""
    start = end = None
    body: list[str] = []
    for line in text.splitlines():
        if times := _SUBVIEWER_LINE.fullmatch(line):
            yield from _body(start, end, body)
            start, end, body = seconds_of(times[1]), seconds_of(times[2]), []
        elif start is None and re.match(r"\ufeff?\[[A-Z]", line):
            draft.note(Code.SPEECH_COMMENT, chars=letters_in(line))
        else:
            body.append(line.replace("[br]", "\n"))
    yield from _body(start, end, body)


def _body(start: float | None, end: float | None, lines: list[str]) -> list[Cue]:
    said = plain("\n".join(lines)).strip()
    return [Cue(start, end, said)] if said else []


def parse_frames(text: str, draft: Draft) -> Iterator[Cue]:
    """Yield the cues, whose times are numbers of pictures. `|` in their text is the end of a line."""
    rate = _FRAMES_A_SECOND
    for number, line in enumerate(text.lstrip("\ufeff").splitlines()):
        if (match := _FRAMES_LINE.match(line)) is None:
            yield Cue(None, None, plain(line))
            continue
        said = match[3].strip()
        if number == 0 and re.fullmatch(r"\d{2}(?:\.\d{1,3})?", said):
            rate = float(said)
            continue
        said = plain(_FRAMES_STYLE.sub("", said).replace("|", "\n"))
        yield Cue(int(match[1]) / rate, int(match[2] or match[1]) / rate, said)
