"""JSON and JSON lines: lays them out for reading, with one member in each line, without interpreting them.

The layout works on tokens. So numbers keep their digits, repeated keys stay, deep nesting needs no stack, and
a file that is not quite JSON (has comments, is cut off) still keeps all its text. Only escaped characters
(`\\u00e9`) are replaced by the characters.
"""

from __future__ import annotations

import json
import re
from typing import BinaryIO

from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.text import whole_text

# Possessive: an unclosed string is one token, and not a search for its end from each quote in quadratic time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}:,]|[^\s"\[\]{}:,]++', re.DOTALL)
_OPENING, _CLOSING, _SEPARATORS = ("[", "{"), ("]", "}"), (",", ":")
# By depth. Indentation has a limit: without it, the layout of a deeply nested file would grow quadratically.
_NEW_LINES = ["\n" + "  " * depth for depth in range(9)]


def read_json(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the values, with a blank line between two of the top level. Holds the file's text in memory."""
    text = whole_text(stream, draft)
    depth = 0
    previous = ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _SEPARATORS:
            draft.write(token)
        elif token in _CLOSING:
            depth = max(0, depth - 1)
            draft.write(token if previous in _OPENING else _new_line(depth) + token)
        else:
            draft.write(_space_after(previous, depth) + _readable(token))
            depth += token in _OPENING
        previous = token
    draft.write("\n")
    return "code"


def _space_after(previous: str, depth: int) -> str:
    """The white space before a name or value."""
    if previous == ":":
        return " "
    if previous == "," or previous in _OPENING:
        return _new_line(depth)
    return "\n\n" if previous else ""


def _new_line(depth: int) -> str:
    return _NEW_LINES[min(depth, len(_NEW_LINES) - 1)]


def _readable(token: str) -> str:
    """A string with its escaped characters replaced; any other token, or an invalid string, unchanged."""
    if "\\u" not in token:
        return token
    try:
        written = json.dumps(json.loads(token), ensure_ascii=False)
        written.encode("utf-8")
    except ValueError:  # not a JSON string, or half of a surrogate pair
        return token
    return written
