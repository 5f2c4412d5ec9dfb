"""Org: headings by their stars, blocks of code, tables; comments and drawers are left out."""

from __future__ import annotations

import re
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.markup.page import Page
from embedfleet.parsing.text import whole_text

_HEADING = re.compile(r"(\*+)[ \t]+(.*?)(?:[ \t]+:([\w@#%:]+):)?[ \t]*$")
_KEYWORD = re.compile(r"[ \t]*#\+([A-Za-z_]+)(?:\[[^\]]*\])?:[ \t]*(.*)$")
_BEGIN = re.compile(r"[ \t]*#\+begin_(\w+)[ \t]*([\w+-]*)", re.IGNORECASE)
_DRAWER = re.compile(r"[ \t]*:(PROPERTIES|LOGBOOK|CLOCK):[ \t]*$", re.IGNORECASE)
_END_OF_DRAWER = re.compile(r"[ \t]*:END:[ \t]*$", re.IGNORECASE)
_COMMENT = re.compile(r"[ \t]*#(?:[ \t]|$)")
_FIXED = re.compile(r"[ \t]*:(?:[ \t]|$)")
_RULE_OF_TABLE = re.compile(r"[ \t]*\|[-+]+\|?[ \t]*$")
_LINK = re.compile(r"\[\[([^\[\]]+)\](?:\[([^\[\]]+)\])?\]")
_METADATA = frozenset(["title", "subtitle", "author", "date", "description", "keywords", "filetags", "email"])
_SHOWN = frozenset({"caption"})
_CODE = frozenset(["src", "example", "export"])


def read_org(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the page as Markdown. Holds its text in memory."""
    _Reader(whole_text(stream, draft).split("\n")).read().write(draft)
    return "markdown"


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0
        self._page = Page()
        self._endless: set[str] = set()
        """The ends that no later line has."""
        self._comment_level = 0
        """The level of a heading that is a comment with all below it; 0 outside of it."""

    def read(self) -> Page:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            heading = _HEADING.match(line)
            if heading and self._comment_level and len(heading[1]) <= self._comment_level:
                self._comment_level = 0
            if self._comment_level:
                self._page.leave_out(Code.MARKUP_COMMENT, line)
            elif heading:
                self._heading(heading)
            else:
                self._line(line)
        return self._page

    def _heading(self, heading: re.Match[str]) -> None:
        stars, title, tags = heading.groups()
        if title.startswith("COMMENT"):
            self._comment_level = len(stars)
            self._page.leave_out(Code.MARKUP_COMMENT, title)
            return
        self._page.heading(len(stars), _without_links(title))
        if tags:
            self._page.text("tags: " + ", ".join(filter(None, tags.split(":"))))
            self._page.blank()

    def _line(self, line: str) -> None:
        if begin := _BEGIN.match(line):
            self._block(begin[1].lower(), begin[2])
        elif keyword := _KEYWORD.match(line):
            self._keyword(keyword[1].lower(), keyword[2].strip())
        elif _DRAWER.match(line):
            self._page.leave_out(Code.MARKUP_SETTING, "\n".join(self._until(_END_OF_DRAWER)))
        elif _COMMENT.match(line):
            self._page.leave_out(Code.MARKUP_COMMENT, line)
        elif _FIXED.match(line):
            self._at -= 1
            self._page.code([one.lstrip()[1:] for one in self._while(_FIXED)])
        elif _RULE_OF_TABLE.match(line):
            self._page.text(line.replace("+", "|"))
        else:
            self._page.text(_without_links(line))

    def _block(self, name: str, language: str) -> None:
        end = re.compile(rf"[ \t]*#\+end_{re.escape(name)}[ \t]*$", re.IGNORECASE)
        lines = self._until(end)
        if name == "comment":
            self._page.leave_out(Code.MARKUP_COMMENT, "\n".join(lines))
        elif name in _CODE:
            # A comma keeps a line of code from being a heading of the page.
            code = [re.sub(r"^([ \t]*),(?=[*#,])", r"\1", line) for line in lines]
            self._page.code(code, language if name == "src" else "")
        else:
            for line in lines:
                self._page.text(_without_links(line))

    def _keyword(self, name: str, value: str) -> None:
        if name == "title":
            self._page.title = value or None
        if name in _METADATA and value:
            self._page.text(f"{name}: {value}")
        elif name in _SHOWN:
            self._page.text(_without_links(value))
        elif name == "include":
            self._page.leave_out(Code.OTHER_FILE, value)
        else:
            self._page.leave_out(Code.MARKUP_SETTING, f"{name} {value}")

    def _until(self, end: re.Pattern[str]) -> list[str]:
        """The lines before the one that ends a block; none, if nothing ends it."""
        if end.pattern in self._endless:
            return []
        for at in range(self._at, len(self._lines)):
            if end.match(self._lines[at]):
                lines = self._lines[self._at : at]
                self._at = at + 1
                return lines
        self._endless.add(end.pattern)
        return []

    def _while(self, kind: re.Pattern[str]) -> list[str]:
        start = self._at
        while self._at < len(self._lines) and kind.match(self._lines[self._at]):
            self._at += 1
        return self._lines[start : self._at]


def _without_links(text: str) -> str:
    return _LINK.sub(lambda link: link[2] or link[1], text)
