"""Captions in markup: TTML and DFXP (.ttml, .dfxp), YouTube's XML, SAMI (.smi).

They are read tag by tag, not with an XML parser: so no entity is expanded, SAMI need not close its tags, and
a file that is cut off or broken loses no text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.speech.cues import Cue, seconds_of, unescaped
from embedfleet.visible_text import letters_in

_TOKEN = re.compile(
    r"<!--(?P<comment>.*?)(?:-->|\Z)|<!\[CDATA\[(?P<cdata>.*?)(?:\]\]>|\Z)|<[?!][^<>]*>"
    r"|<(?P<close>/?)(?:[\w.-]{1,30}:)?(?P<name>[A-Za-z][\w.-]{0,40})(?P<attributes>[^<>]*?)(?P<empty>/?)>"
    r"|(?P<text>[^<]+|<)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([\w:.-]{1,60})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_OFFSET = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(h|ms|m|s|f|t)")
_FRAMES = re.compile(r"(\d{1,3}:\d{1,2}:\d{1,2})[:;](\d{1,3})(?:\.\d+)?")
_CUE_TAGS = frozenset({"p", "text", "sync"})
_HEAD_TAGS = frozenset({"head", "metadata", "style", "styling", "layout"})
_MILLISECONDS = 1000
_FIRST_TAG = re.compile(r"\ufeff?\s*<(?:\?xml|!--|(?:\w+:)?tt\b|transcript|timedtext|SAMI)", re.IGNORECASE)
_BLANK = re.compile(r"[ \t\r\n]+")


def looks_like_markup(text: str) -> bool:
    """Whether the text begins as one of these formats."""
    return _FIRST_TAG.match(text) is not None


def parse_markup(text: str, draft: Draft) -> list[Cue]:
    """Return the cues in the order of the file."""
    reader = _Reader(draft)
    for token in _TOKEN.finditer(text):
        reader.read(token)
    return reader.finish()


@dataclass(slots=True)
class _Rates:
    frames: float = 30.0  # what TTML says if the file does not
    ticks: float = 1.0

    def seconds(self, written: str) -> float | None:
        """The seconds of a TTML time: a clock time, perhaps with frames, or a number with a unit."""
        if offset := _OFFSET.fullmatch(written.strip()):
            units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "f": 1 / self.frames, "t": 1 / self.ticks}
            return float(offset[1]) * units[offset[2]]
        if frames := _FRAMES.fullmatch(written.strip()):
            clock = seconds_of(frames[1])
            return None if clock is None else clock + int(frames[2]) / self.frames
        return seconds_of(written)


@dataclass(slots=True)
class _Open:
    """A cue that is being read."""

    start: float | None
    end: float | None
    speaker: str | None
    pieces: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._rates = _Rates()
        self._cues: list[Cue] = []
        self._cue = _Open(None, None, None)
        self._agents: dict[str, str] = {}
        self._agent = ""
        self._head = 0
        self._head_tag = ""
        self._is_sami = False
        self._is_youtube = False
        self._block_begin = 0.0

    def read(self, token: re.Match[str]) -> None:
        if token["name"]:
            self._tag(token)
        elif token["comment"]:
            self._draft.note(Code.SPEECH_COMMENT, chars=letters_in(token["comment"]))
        else:
            self._text(token["cdata"] or unescaped(token["text"] or ""))

    def finish(self) -> list[Cue]:
        self._close()
        return self._cues

    def _tag(self, token: re.Match[str]) -> None:
        name, is_closing = token["name"].lower(), bool(token["close"])
        attributes = {} if is_closing else _attributes(token["attributes"])
        if name in _HEAD_TAGS:
            self._head = max(0, self._head + (-1 if is_closing else not token["empty"]))
        if self._head:
            self._head_tag = "" if is_closing else name
            self._agent = attributes.get("id", self._agent) if name == "agent" else self._agent
        elif name in ("tt", "timedtext") and not is_closing:
            self._set_rates(attributes)
        elif name == "br":
            self._cue.pieces.append("\n")
        elif name == "sami":
            self._is_sami = True
        elif name == "transcript":
            self._is_youtube = True
        elif name in ("div", "body") and "begin" in attributes:
            self._block_begin = self._rates.seconds(attributes["begin"]) or 0.0
        elif name in _CUE_TAGS and not (self._is_sami and name == "p"):
            self._close()
            if not is_closing:
                self._open(name, attributes)
        elif name == "span" and "begin" in attributes and self._cue.start is None:
            self._open("p", attributes)

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        start, end = self._times(name, attributes)
        if start is None or (end is not None and end < start):
            self._draft.note(Code.SPEECH_TIME)
        agent = attributes.get("agent", "")
        self._cue = _Open(start, end, self._agents.get(agent))

    def _times(self, name: str, attributes: dict[str, str]) -> tuple[float | None, float | None]:
        if name == "sync" or ("t" in attributes and name == "p"):
            start = _number(attributes.get("start") or attributes.get("t"), _MILLISECONDS)
            duration = _number(attributes.get("d"), _MILLISECONDS)
        elif name == "text":
            start, duration = _number(attributes.get("start"), 1), _number(attributes.get("dur"), 1)
        else:
            start = self._rates.seconds(attributes.get("begin", ""))
            start = None if start is None else start + self._block_begin
            end = self._rates.seconds(attributes.get("end", ""))
            duration = self._rates.seconds(attributes.get("dur", ""))
            if end is not None:
                return start, end + self._block_begin
        return start, None if start is None or duration is None else start + duration

    def _set_rates(self, attributes: dict[str, str]) -> None:
        frames = _number(attributes.get("framerate"), 1) or self._rates.frames
        multiplier = attributes.get("frameratemultiplier", "").split()
        if len(multiplier) == 2 and all(map(str.isdecimal, multiplier)) and int(multiplier[1]):
            frames *= int(multiplier[0]) / int(multiplier[1])
        self._rates.frames = frames or self._rates.frames
        self._rates.ticks = _number(attributes.get("tickrate"), 1) or self._rates.ticks

    def _text(self, text: str) -> None:
        if not self._head:
            self._cue.pieces.append(_BLANK.sub(" ", text))
        elif self._head_tag == "title" and text.strip():
            self._draft.title = self._draft.title or text.strip()
        elif self._head_tag == "name" and self._agent and text.strip():
            self._agents[self._agent] = text.strip()
        elif text.strip():
            self._draft.note(Code.SPEECH_COMMENT, chars=letters_in(text))

    def _close(self) -> None:
        """End the cue. SAMI has no ends: a cue is shown until the next one begins."""
        cue, self._cue = self._cue, _Open(None, None, None)
        said = "".join(cue.pieces).strip()
        if self._is_youtube:  # which escapes its text twice: &amp;#39;
            said = unescaped(said)
        if said:
            self._cues.append(Cue(cue.start, cue.end, said, cue.speaker))


def _attributes(written: str) -> dict[str, str]:
    """The attributes by their names in lower case, without prefixes."""
    return {
        match[1].rpartition(":")[2].lower(): unescaped(match[2] or match[3] or match[4] or "")
        for match in _ATTRIBUTE.finditer(written)
    }


def _number(written: str | None, divisor: int) -> float | None:
    if written is None or not re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", written.strip()):
        return None
    return float(written) / divisor
