"""JSON and JSON lines: laid out for reading, one member a line, nothing interpreted.

The layout is lexical: numbers keep their digits, repeated keys stay, nesting of any depth costs no
stack, and a file that is not quite JSON (comments, a cut end) is still laid out whole. Only escaped
characters (`\\u00e9`) are written as themselves.
"""

from __future__ import annotations

import json
import re
from typing import BinaryIO

from embedfleet.parsing.extraction import Emit, Summary
from embedfleet.parsing.text import whole_text

# Possessive, so that an unclosed string is one token and never a search for its end from every quote.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}:,]|[^\s"\[\]{}:,]++', re.DOTALL)
_OPENING, _CLOSING, _CLINGING = ("[", "{"), ("]", "}"), (",", ":")
# By depth. Indenting without end would let a small file grow quadratically.
_NEW_LINES = ["\n" + "  " * depth for depth in range(9)]


def read_json(stream: BinaryIO, emit: Emit) -> Summary:
    """Emit value after value, a blank line between those at the top. Holds the file's text in memory."""
    text, warnings = whole_text(stream)
    depth = 0
    previous = ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _CLINGING:
            emit(token)
        elif token in _CLOSING:
            depth = max(0, depth - 1)
            emit(token if previous in _OPENING else _new_line(depth) + token)
        else:
            emit(_space_after(previous, depth) + _readable(token))
            depth += token in _OPENING
        previous = token
    emit("\n")
    return Summary("code", warnings=warnings)


def _space_after(previous: str, depth: int) -> str:
    """What stands before a name or value."""
    if previous == ":":
        return " "
    if previous == "," or previous in _OPENING:
        return _new_line(depth)
    return "\n\n" if previous else ""


def _new_line(depth: int) -> str:
    return _NEW_LINES[min(depth, len(_NEW_LINES) - 1)]


def _readable(token: str) -> str:
    """A string with its escaped characters written out, if that is possible; else the token itself."""
    if "\\u" not in token:
        return token
    try:
        written = json.dumps(json.loads(token), ensure_ascii=False)
        written.encode("utf-8")
    except ValueError:  # not a JSON string, or half a surrogate pair
        return token
    return written
