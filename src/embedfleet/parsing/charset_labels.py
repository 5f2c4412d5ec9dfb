"""The encoding that a text file itself declares, and the codec for each name of an encoding.

Labels mean what browsers take them for (WHATWG Encoding Standard, through `webencodings`): "x-sjis" is
Windows-932, "latin1" is Windows-1252.
"""

from __future__ import annotations

import codecs
import re

import webencodings

PRESCAN_BYTES = 4096
"""How many bytes from the start of a file `declared_in` needs. Browsers look at the first 1,024 of a page."""

# Codecs for the names of the WHATWG standard that Python spells otherwise, or means a smaller set by.
_CODECS = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859-8",
    "x-mac-cyrillic": "mac-cyrillic",
    "macintosh": "mac-roman",
    "windows-874": "cp874",
}
# What pages declare by the other names that Python knows, and the superset of each that is in use.
_SUPERSETS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030"}
# Browsers refuse these labels, since scripts can hide in them. The text of such a file is harmless here.
_REFUSED_BY_BROWSERS = {
    "hz-gb-2312": "hz",
    "iso-2022-kr": "iso2022_kr",
    "csiso2022kr": "iso2022_kr",
}
# Codecs of Python that take text, but are no encodings of files.
_NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem")

_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_LABEL = rb"""\s*=\s*["']?\s*([\w.:+-]+)"""
_IN_MARKUP = re.compile(rb"(?:<meta\b[^>]+?charset|<\?xml\b[^>]+?encoding)" + _LABEL, re.IGNORECASE)
# Editors and compilers look for a "coding" comment in the first two lines (PEP 263, Emacs, Vim).
_CODING = re.compile(rb"^[^\n]*?(?:coding|fileencoding|fenc)[=:][ \t]*([\w.-]+)")
_COMMENT_SIGNS = (b"#", b"//", b"/*", b"%", b";", b'"', b"--")
_OTHERS = (
    re.compile(rb"""^@charset\s+"([\w.:-]+)";"""),  # CSS
    re.compile(rb"\\usepackage\s*\[([\w.-]+)\]\s*\{inputenc\}"),  # TeX
    re.compile(rb"\\inputencoding\s*\{([\w.-]+)\}"),
    re.compile(rb"""^"?Content-Type:\s*text/[^\n]*?charset=["']?([\w.:+-]+)""", re.IGNORECASE | re.MULTILINE),
)
# The names that TeX has for encodings, where other files have other ones.
_TEX_NAMES = {"applemac": "macintosh", "ansinew": "cp1252", "utf8x": "utf-8", "latin9": "iso8859-15"}


def known_codec(label: str) -> str | None:
    """Return the codec for the name of an encoding; None if it is not one of text files that Python has."""
    name = label.strip().lower()
    name = _TEX_NAMES.get(name, name)
    if name in _REFUSED_BY_BROWSERS:
        return _REFUSED_BY_BROWSERS[name]
    standard = webencodings.lookup(name) if name.isascii() else None
    if standard is not None and standard.name not in ("replacement", "x-user-defined"):
        name = _CODECS.get(standard.name, standard.name)
    return _usable(name)


def declared_in(head: bytes) -> str | None:
    """Return the codec that the file declares in its first bytes: PRESCAN_BYTES of them are enough."""
    head = _COMMENT.sub(b"", head[:PRESCAN_BYTES]) if b"<!--" in head else head[:PRESCAN_BYTES]
    found = _IN_MARKUP.search(head) or _coding_comment(head)
    found = found or next((match for one in _OTHERS if (match := one.search(head))), None)
    return known_codec(found.group(1).decode("ascii", "replace")) if found else None


def _coding_comment(head: bytes) -> re.Match[bytes] | None:
    lines = head.split(b"\n", 2)[:2]
    comments = (line for line in lines if line.lstrip().startswith(_COMMENT_SIGNS))
    return next((match for line in comments if (match := _CODING.match(line))), None)


def _usable(name: str) -> str | None:
    try:
        b"a".decode(name)  # refuses codecs that are not for text, such as base64
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    # A file cannot be UTF-16 or UTF-32 if its declaration is readable as ASCII, even if it declares that.
    if codec.startswith(("utf-16", "utf-32")) or codec.replace("_", "-") in _NOT_OF_FILES:
        return None
    return _SUPERSETS.get(codec, codec)
