"""Removes what captions show again: rolling captions, growing captions, and frames of one caption.

Rolling captions keep the last line on the screen while the next one appears below it. Growing captions add
a word at a time. In both, a cue begins with the words with which the one before it ends. A speaker who says
a word twice makes such a pair, too: so repetitions are removed only in a file where most cues do this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.speech.cues import Cue
from embedfleet.visible_text import letters_in

_WINDOW_WORDS = 100  # no screen of captions shows more; bounds the comparison of two cues
_CHANCE_WORDS = 2  # this many equal words at the seam of two cues may be chance
_MIN_EVIDENCE = 2  # one pair of cues may be chance
_FRAME_SECONDS = 0.5  # a shorter cue is a frame of an animation: too short to be said


def shown_once(cues: Sequence[Cue], draft: Draft) -> list[Cue]:
    """Return the cues without what the one before them shows already. Notes how much that was."""
    words = [cue.text.split() for cue in cues]
    overlaps = [0, *(_overlap(words[i - 1], words[i]) for i in range(1, len(cues)))]
    rolls = _is_rolling(cues, words, overlaps)
    kept: list[Cue] = []
    repeated = chars = 0
    for i, cue in enumerate(cues):
        again = overlaps[i] if i and (rolls or _is_same_frame(cues[i - 1], cue)) else 0
        if again:
            repeated += 1
            chars += sum(map(letters_in, words[i][:again]))
            cue = replace(cue, text=" ".join(words[i][again:]))
        kept.append(cue)
    draft.note(Code.SPEECH_REPEATED, count=repeated, chars=chars)
    return kept


def _overlap(before: Sequence[str], words: Sequence[str]) -> int:
    """How many words at the start of a cue are those at the end of the one before it: the most possible."""
    if before == words:
        return len(words)
    for count in range(min(len(before), len(words), _WINDOW_WORDS), 0, -1):
        if before[-count] == words[0] and before[-count:] == words[:count]:
            return count
    return 0


def _is_rolling(cues: Sequence[Cue], words: Sequence[Sequence[str]], overlaps: Sequence[int]) -> bool:
    """Whether at least half of the cues with new words begin with words of the one before them."""
    with_new_words = evidence = 0
    for i in range(1, len(cues)):
        if words[i] and words[i - 1] and overlaps[i] < len(words[i]):
            with_new_words += 1
            evidence += _weight(cues[i - 1].text, cues[i].text, len(words[i - 1]), overlaps[i])
    return evidence >= max(_MIN_EVIDENCE, with_new_words / 2)


def _weight(before: str, text: str, words_before: int, overlap: int) -> int:
    """How much a pair of cues speaks for rolling captions: 2 if a whole line has moved up."""
    if not overlap:
        return 0
    lines, lines_before = text.splitlines(), before.splitlines()
    if overlap > _CHANCE_WORDS and len(lines) > 1 and lines[0].split() == lines_before[-1].split():
        return 2
    return int(overlap > _CHANCE_WORDS or overlap == words_before)


def _is_same_frame(before: Cue, cue: Cue) -> bool:
    """Whether both are one caption: shown at the same time in two layers, or frame after frame."""
    if before.text != cue.text or before.start is None or cue.start is None:
        return False
    if (before.start, before.end) == (cue.start, cue.end):
        return True
    ends = (before.end or before.start, cue.end or cue.start)
    shortest = min(ends[0] - before.start, ends[1] - cue.start)
    return shortest < _FRAME_SECONDS and abs(cue.start - ends[0]) < _FRAME_SECONDS / 10
