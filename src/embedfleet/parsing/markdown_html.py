"""The HTML in a Markdown page: its headings are headings, its pictures their descriptions, other tags go.

Tables, lists, code, and what is raised or lowered keep their tags, as these have a meaning.
"""

from __future__ import annotations

import re
from html import unescape

_TAGS = (
    "details|div|p|span|a|center|picture|source|b|i|em|strong|u|small|font|kbd|abbr|section|article|figure"
    "|figcaption|ins|mark|tt|header|footer|main|aside|summary|video|iframe|big|nobr"
)
_BEGINNING = re.compile("[`<]")
_FOUND = re.compile(
    r"(?P<code>(?P<ticks>`+)(?!`)[^`](?:.{0,300}?[^`])?(?P=ticks)(?!`))"
    r"|<h(?P<level>[1-6])(?:\s[^<>]{0,300})?>(?P<title>.{0,600}?)</h(?P=level)\s*>"
    r"|<summary(?:\s[^<>]{0,300})?>(?P<summary>.{0,600}?)</summary\s*>"
    r"|<img\s(?P<image>[^<>]{0,2000})>"
    r"|(?P<break><br\s*/?>)"
    rf"|</?(?:{_TAGS})(?:\s[^<>]{{0,2000}})?/?>",
    re.DOTALL | re.IGNORECASE,
)
_LONGEST_ROW = 4096  # bounds the search for the beginning of a row
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)


def without_tags(text: str) -> str:
    """Return text that is no block of code, with the HTML in it as Markdown."""
    if "<" not in text or "<pre" in text:
        return text
    pieces: list[str] = []
    done = 0
    # To look for these two signs first takes a tenth of a search for all of the pattern's forms.
    for sign in _BEGINNING.finditer(text):
        if sign.start() >= done and (found := _FOUND.match(text, sign.start())):
            pieces += (text[done : found.start()], _as_markdown(found))
            done = found.end()
    return "".join((*pieces, text[done:]))


def _as_markdown(found: re.Match[str]) -> str:
    if found["code"] is not None:
        return found[0]
    if found["level"] is not None:
        title = " ".join(without_tags(found["title"]).split())
        return f"\n\n{'#' * int(found['level'])} {title}\n\n" if title else ""
    if found["summary"] is not None:
        return f"\n\n{' '.join(without_tags(found['summary']).split())}\n\n"
    if found["image"] is not None:
        alt = _ALT.search(found["image"])
        return unescape(alt[1] or alt[2] or "") if alt else ""
    if found["break"] is not None:
        before = found.string[max(0, found.start() - _LONGEST_ROW) : found.start()]
        return " " if before.rpartition("\n")[2].lstrip()[:1] == "|" else "\n"
    return ""
