"""Joins cues to running speech: sentences go on across cues, paragraphs end at pauses and other speakers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from embedfleet.parsing.draft import Draft
from embedfleet.parsing.speech.cues import Cue
from embedfleet.parsing.speech.rolling import shown_once

_PAUSE_SECONDS = 2.0  # between sentences; within a sentence, speakers pause for about a second
_LONG_PAUSE_SECONDS = 8.0  # another scene, even if the last sentence has no full stop
_BACK_SECONDS = 1.0  # cues that begin earlier than the last one by more belong to another track
_SENTENCE_END = re.compile(r"[.!?…。！？؟।♪♫][\"'”’»)\]]*$")
_DASH = re.compile(r"[-\u2010\u2013\u2014]\s?\w")
# A speaker in capitals ("ANN:"), a numbered one, or the chevrons of live captions.
_OTHER_SPEAKER = re.compile(r">>|(?:[A-Z][A-Z.'’ -]{1,30}|Speaker \d{1,3}|SPEAKER_\d{1,3}):\s")


def write_speech(cues: Iterable[Cue], draft: Draft) -> None:
    """Write what is said, each part once, with the seconds of each cue."""
    writer = _Writer(draft)
    for cue in shown_once(list(cues), draft):
        writer.add(cue)
    writer.finish()


class _Writer:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._previous: Cue | None = None
        self._speaker: str | None = None
        self._count = 0

    def add(self, cue: Cue) -> None:
        said = _joined_lines(cue.text)
        if not said:
            return
        self._draft.write(self._separator(cue, said))
        if cue.start is not None:
            self._draft.begin_cue(cue.start, cue.start if cue.end is None else max(cue.start, cue.end))
        label = f"{cue.speaker}: " if cue.speaker and cue.speaker != self._speaker else ""
        self._draft.write(label + said)
        self._previous = Cue(cue.start, cue.end, said, cue.speaker, cue.own_line)
        self._speaker = cue.speaker
        self._count += 1

    def finish(self) -> None:
        self._draft.found("cues", self._count)
        if self._count:
            self._draft.write("\n")

    def _separator(self, cue: Cue, said: str) -> str:
        previous = self._previous
        if previous is None:
            return ""
        if cue.speaker != self._speaker or _OTHER_SPEAKER.match(said) or _is_pause(previous, cue):
            return "\n\n"
        return "\n" if cue.own_line or _DASH.match(said) else " "


def _is_pause(previous: Cue, cue: Cue) -> bool:
    if (previous.start is None) != (cue.start is None):
        return True
    if previous.start is None or cue.start is None:
        return False
    if cue.start < previous.start - _BACK_SECONDS:
        return True
    if previous.end is None:
        return cue.start - previous.start >= _LONG_PAUSE_SECONDS
    enough = _PAUSE_SECONDS if _SENTENCE_END.search(previous.text[-8:]) else _LONG_PAUSE_SECONDS
    return cue.start - previous.end >= enough


def _joined_lines(text: str) -> str:
    """The lines of a cue as one, except that each speaker of a dialogue ("- Yes.") begins a line."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    joined = ""
    for line in filter(None, lines):
        separator = ("\n" if _DASH.match(line) or _OTHER_SPEAKER.match(line) else " ") if joined else ""
        joined += separator + line
    return joined
