"""SubStation Alpha (.ass, .ssa): what is said is in the Dialogue lines of the section [Events]."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.speech.cues import Cue, seconds_of
from embedfleet.visible_text import letters_in

# Of the older version of the format and of the newer one; files without a Format line have these columns.
_COLUMNS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_BRACES = re.compile(r"\{([^{}]*)\}")
_DRAWING = re.compile(r"\\p(\d)")
_NO_TITLES = ("", "default aegisub file", "<untitled>", "untitled")


def parse_substation(text: str, draft: Draft) -> list[Cue]:
    """Return the cues by their time: the file has them in the order of its editor."""
    cues: list[Cue] = []
    columns: Sequence[str] = _COLUMNS
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        kind, colon, value = line.partition(":")
        kind = kind.strip().lower()
        if line.startswith("[") and line.rstrip().endswith("]"):
            section = line.strip().lower()
        elif section in ("[fonts]", "[graphics]"):
            draft.note(Code.SPEECH_COMMENT, chars=letters_in(line))
        elif kind == "title" and colon and value.strip().lower() not in _NO_TITLES:
            draft.title = draft.title or value.strip()
        elif kind == "format" and section == "[events]":
            columns = [name.strip().lower() for name in value.split(",")]
        elif kind == "dialogue" and colon:
            cues.append(_cue(value, columns, number, draft))
        elif kind == "comment" and colon and section == "[events]":
            draft.note(Code.SPEECH_COMMENT, chars=letters_in(value))
    return sorted(cues, key=lambda cue: -1.0 if cue.start is None else cue.start)


def _cue(value: str, columns: Sequence[str], number: int, draft: Draft) -> Cue:
    """The cue of a Dialogue line. The text is its last column, and may have commas."""
    values = value.split(",", len(columns) - 1)
    fields = dict(zip(columns, (one.strip() for one in values), strict=False))
    said = _visible(fields["text"] if len(values) == len(columns) and "text" in fields else values[-1], draft)
    start, end = seconds_of(fields.get("start", "")), seconds_of(fields.get("end", ""))
    if start is None or end is None or end < start:
        draft.note(Code.SPEECH_TIME, place=f"line {number}")
    return Cue(start, end, said, fields.get("name") or fields.get("actor") or None)


def _visible(text: str, draft: Draft) -> str:
    """The text without styles, drawings and comments, which are all in braces or between them."""
    pieces: list[str] = []
    is_drawing = False
    for i, piece in enumerate(_BRACES.split(text)):
        if i % 2 == 0:
            if is_drawing:
                draft.note(Code.SPEECH_COMMENT, chars=letters_in(piece))
            else:
                pieces.append(piece)
        elif drawing := _DRAWING.findall(piece):
            is_drawing = drawing[-1] != "0"
        elif "\\" not in piece and piece.strip():
            draft.note(Code.SPEECH_COMMENT, chars=letters_in(piece))
    return "".join(pieces).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")


def looks_like_substation(text: str) -> bool:
    """Whether the text begins with a section of such a file."""
    return re.match(r"\ufeff?\s*\[(?:Script Info|V4\+? Styles|Events)\]", text, re.IGNORECASE) is not None
