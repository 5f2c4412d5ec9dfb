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
_MAX_INDENT = 40  # spaces; indenting deeper would let a small file grow quadratically


def read_json(stream: BinaryIO, emit: Emit) -> Summary:
    """Emit value after value, a blank line between those at the top. Holds the file's text in memory."""
    text, warnings = whole_text(stream)
    depth = 0
    previous = ""
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "]}":
            depth = max(0, depth - 1)
        emit(_space(previous, token, depth) + _readable(token))
        if token in "[{":
            depth += 1
        previous = token
    emit("\n")
    return Summary("code", warnings=warnings)


def _space(previous: str, token: str, depth: int) -> str:
    """What stands between two tokens; `depth` is that of the second."""
    if not previous or token in ",:":
        return ""
    if token in "]}" and previous in "[{":
        return ""
    if token in "]}" or previous in "[{,":
        return "\n" + " " * min(2 * depth, _MAX_INDENT)
    return "\n\n" if depth == 0 and previous != ":" else " "


def _readable(token: str) -> str:
    """A string with its escaped characters written out, if that is possible; else the token itself."""
    if not token.startswith('"') or "\\u" not in token:
        return token
    try:
        written = json.dumps(json.loads(token), ensure_ascii=False)
        written.encode("utf-8")
    except ValueError:  # not a JSON string, or half a surrogate pair
        return token
    return written
