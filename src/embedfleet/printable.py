"""Text that a terminal shows and does not obey: control characters become visible escapes.

File names, document texts, names of tenants and messages of servers come from strangers. An escape sequence
in one of them could set the title of the window, hide a line, or fill the clipboard.
"""

from __future__ import annotations

import re

# What a terminal acts on, or shows as something else than it is:
# C0 (with ESC and newline), DEL and C1 (the CSI and OSC of one character);
# the marks that turn the direction of text (a name that ends in "fdp.exe" reads as "exe.pdf");
# the line ends of Unicode; halves of characters, which stand for bytes that are no UTF-8; invisible tags.
_HARMFUL = (
    "\x00-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u2028\u2029"
    "\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_IN_ONE_LINE = re.compile(f"[{_HARMFUL}]")
_IN_LINES = re.compile(f"(?![\n\t])[{_HARMFUL}]")


def harmless(text: str) -> str:
    r"""Return the text as one line, each harmful character as its escape, such as `\x1b` or `\u202e`."""
    return _IN_ONE_LINE.sub(_escape, text)


def harmless_lines(text: str) -> str:
    """Like `harmless`, but newlines and tabs stay: for a traceback, or a page of several lines."""
    return _IN_LINES.sub(_escape, text)


def harmless_json(document: str) -> str:
    r"""Return the same JSON document with the harmful characters of its strings as `\uXXXX`.

    JSON itself escapes C0 only. Between strings there are no harmful characters but newlines.
    """
    return _IN_LINES.sub(_json_escape, document)


def _escape(found: re.Match[str]) -> str:
    # A byte of a file name that is no UTF-8 is in Python's text as U+DC00 plus the byte.
    if "\udc80" <= found[0] <= "\udcff":
        return f"\\x{ord(found[0]) - 0xDC00:02x}"
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
