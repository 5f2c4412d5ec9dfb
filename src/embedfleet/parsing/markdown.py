"""Markdown: what a reader of the page sees, as Markdown.

Front matter becomes lines of `name: value`, and its title the document's. Comments and the addresses of links
are left out. Code stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.front_matter import front_matter_of
from embedfleet.parsing.markdown_html import without_tags
from embedfleet.parsing.text import whole_text
from embedfleet.visible_text import letters_in

# What begins code, in which nothing is a comment, or begins a comment. MDX has comments in braces.
_OPENING = re.compile(r"(?P<ticks>`+)|(?P<tildes>~{3,})|<!--|\{/\*")
_FIRST_OF_OPENING = re.compile(r"[`~<{]")
_BEFORE_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?")
_LONGEST_BEFORE_FENCE = 200  # bounds the search for the beginning of its line
_CLOSINGS = {"<!--": "-->", "{/*": "*/}"}
_LONGEST_SPAN = 2000  # code between backticks ends in its paragraph; bounds the search for its end
_COMMENT_LINE = re.compile(
    r"^[ ]{0,3}\[(?://|comment|_metadata_|#)[^\]\n]{0,80}\]:[ \t]*(?:#|<>)[ \t][^\n]*\n?", re.MULTILINE
)
_LINK_TARGET = re.compile(
    r"^[ ]{0,3}\[(?!\^)[^\]\n]{1,300}\]:[ \t]*(?:<[^>\n]*>|(?:[\w+.-]{2,20}:|/|\.{1,2}/|#|www\.)[^\s<>]*)"
    r"(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'|\([^)\n]*\)))?[ \t]*(?:\n|\Z)",
    re.MULTILINE,
)
_HEADING = re.compile(r"\s*(?:#[ \t]+([^\n]*?)[ \t#]*(?:\n|\Z)|([^\n]+)\n=+[ \t]*(?:\n|\Z))")
_INDENTED_CODE = re.compile(r"(?:[ ]{4}|\t)[ \t]*$")
_LIST_ITEM = re.compile(r"[ ]{0,3}(?:[-*+]|\d{1,9}[.)])[ \t]")


def read_markdown(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the page. Holds its text in memory."""
    text = whole_text(stream, draft)
    start = 0
    if front := front_matter_of(text):
        start = front.end
        draft.write(front.lines.strip("\n") + "\n\n" if front.lines.strip() else "")
        draft.note(Code.MARKUP_COMMENT, count=front.comments, chars=front.comment_chars)
        draft.title = front.title
    body = text[start:].lstrip("\n") if start else text
    if (heading := _HEADING.match(body)) and draft.title in heading.groups():
        draft.title = None
    for piece, is_code in _pieces(body, draft):
        draft.write(piece if is_code else without_tags(_without_targets(piece, draft)))
    return "markdown"


def _pieces(text: str, draft: Draft) -> Iterator[tuple[str, bool]]:
    """The text without comments, in pieces, each with whether it is code."""
    at = start = 0
    unclosed: set[str] = set()
    while found := _next_opening(text, at):
        at = found.end()
        if (line := _line_of_fence(text, found, start)) is not None:
            yield text[start:line], False
            start = at = _end_of_fence(text, found)
            yield text[line:at], True
        elif found["ticks"] is not None:
            at = _end_of_span(text, found)
        elif found["tildes"] is None and found[0] not in unclosed:
            end = text.find(_CLOSINGS[found[0]], at)
            if end < 0:
                unclosed.add(found[0])  # text that only mentions the sign
            elif not _is_indented_code(text, found.start()):
                yield text[start : found.start()], False
                at = start = end + len(_CLOSINGS[found[0]])
                draft.note(Code.MARKUP_COMMENT, chars=letters_in(text[found.end() : end]))
    yield text[start:], False


def _next_opening(text: str, at: int) -> re.Match[str] | None:
    """The next mark. To look for its first character takes a fifth of a search for all of its forms."""
    while first := _FIRST_OF_OPENING.search(text, at):
        if found := _OPENING.match(text, first.start()):
            return found
        at = first.end()
    return None


def _line_of_fence(text: str, found: re.Match[str], start: int) -> int | None:
    """Where the line begins that begins fenced code with this mark; None if the mark begins none."""
    if len(found[0]) < len("```") or found[0][0] not in "`~":
        return None
    line = text.rfind("\n", max(start, found.start() - _LONGEST_BEFORE_FENCE), found.start()) + 1
    line = max(line, start)
    if line and text[line - 1] != "\n":
        return None
    line_end = text.find("\n", found.end())
    info = text[found.end() : line_end if line_end >= 0 else len(text)]
    is_first = _BEFORE_FENCE.fullmatch(text, line, found.start()) is not None
    return line if is_first and (found["tildes"] is not None or "`" not in info) else None


def _end_of_fence(text: str, opening: re.Match[str]) -> int:
    """Where fenced code ends; at the end of the text if it is not closed, as in the chunker."""
    fence = opening[0]
    closing = re.compile(rf"^[ \t>]*{re.escape(fence)}{re.escape(fence[0])}*[ \t]*(?:\n|\Z)", re.MULTILINE)
    found = closing.search(text, opening.end())
    return found.end() if found else len(text)


def _end_of_span(text: str, opening: re.Match[str]) -> int:
    """Where code between backticks ends; behind the backticks if nothing closes them."""
    limit = text.find("\n\n", opening.end(), opening.end() + _LONGEST_SPAN)
    limit = limit if limit >= 0 else opening.end() + _LONGEST_SPAN
    closing = re.compile(rf"(?<!`)`{{{len(opening['ticks'])}}}(?!`)")
    found = closing.search(text, opening.end(), limit)
    return found.end() if found else opening.end()


def _is_indented_code(text: str, at: int) -> bool:
    """Whether a comment stands in code that is indented by four spaces, and not in an item of a list."""
    line = text.rfind("\n", 0, at) + 1
    if not _INDENTED_CODE.match(text, line, at):
        return False
    before = text[max(0, line - _LONGEST_SPAN) : line].rstrip().split("\n")
    outer = next((one for one in reversed(before) if one.strip() and one[:1] not in " \t"), "")
    return not _LIST_ITEM.match(outer)


def _without_targets(text: str, draft: Draft) -> str:
    """Text outside of code, without the lines that only say where the links of the page lead."""
    if "]:" not in text:
        return text
    for code, line in ((Code.MARKUP_COMMENT, _COMMENT_LINE), (Code.LINK_TARGET, _LINK_TARGET)):
        left = line.findall(text)
        if left:
            text = line.sub("", text)
            draft.note(code, count=len(left), chars=sum(map(letters_in, left)))
    return text
