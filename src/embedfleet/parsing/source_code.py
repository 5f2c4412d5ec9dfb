"""Source code: as it is, but for code that a program has written for programs: minified JavaScript and CSS.

Such a line has no names that mean anything and no comments, and makes hundreds of chunks that say nothing.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.text import whole_text
from embedfleet.visible_text import letters_in

_SHORTEST = 1000
"""A shorter line may have been written by hand."""
_MOST_BLANKS = 0.1  # of the characters; in text and in code of people it is more than 0.13
_LEAST_SIGNS = 0.1  # of the characters; in text it is less than 0.05
_CHARS_PER_WORD = 400  # minified JavaScript has about five of these words in that length
_CHARS_PER_DECLARATION = 100  # those of minified CSS are about 25 characters long, with their selectors 60
_SIGN = re.compile(r"[{}()\[\];,=:!&|?]")
_WORD_OF_SCRIPT = re.compile(r"\bfunction\b|=>|\breturn\b|\bvar\b|&&|\|\||\bthis\.|\bconst\b|\blet\b")
_DECLARATION_OF_STYLE = re.compile(r"[{;][\w-]+:[^;{}]{1,200}(?=[;}])")
_NOTICE = re.compile(r"\s*(?:/\*.{0,4000}?\*/\s*)+")
"""The comments at the beginning of the line, which have the name and the licence."""


def read_code(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the code. Holds its text in memory."""
    text = whole_text(stream, draft)
    if _has_long_line(text):
        text = "\n".join(
            _without_minified(line, number, draft) for number, line in enumerate(text.split("\n"), start=1)
        )
    draft.write(text)
    return "code"


def _has_long_line(text: str) -> bool:
    half = _SHORTEST // 2  # a line of the whole length covers one of these
    return any("\n" not in text[at : at + half] for at in range(0, len(text) - half + 1, half))


def _without_minified(line: str, number: int, draft: Draft) -> str:
    if len(line) < _SHORTEST or not _is_minified(line):
        return line
    notice = _NOTICE.match(line)
    start = notice.end() if notice else 0
    draft.note(Code.MINIFIED_CODE, chars=letters_in(line[start:]), place=f"line {number}")
    return line[:start].rstrip()


def _is_minified(line: str) -> bool:
    size = len(line)
    if line.count(" ") > size * _MOST_BLANKS:
        return False
    if len(_DECLARATION_OF_STYLE.findall(line)) > size / _CHARS_PER_DECLARATION:
        return True
    words = len(_WORD_OF_SCRIPT.findall(line))
    return words > size / _CHARS_PER_WORD and len(_SIGN.findall(line)) > size * _LEAST_SIGNS
