"""reStructuredText: headings by their underlines, directives by their content; comments are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.markup.page import Page
from embedfleet.parsing.text import whole_text

_UNDERLINE = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*$")
_DIRECTIVE = re.compile(r"\.\.[ \t]+(?:\|([^|]+)\|[ \t]+)?([\w:+.-]+?)::(?:[ \t]+(.*))?$")
_TARGET = re.compile(r"(?:\.\.[ \t]+_(?:`[^`]*`|[^:]*(?:\\:[^:]*)*):|__[ \t])")
_NOTE = re.compile(r"\.\.[ \t]+(\[[^\]]+\][ \t]?.*)$")
_OPTION = re.compile(r"[ \t]*:([\w -]+):(?:[ \t]+(.*))?$")
_FIELD = re.compile(r":([^:`]+):[ \t]+(?=\S)")
_ROLE = re.compile(r":[\w:+.-]+:`([^`]*?)(?:[ \t]*<[^`>]*>)?`(?!`)")
_LINK = re.compile(r"(?<![`\w])`([^`<]*?)[ \t]*(?:<[^`>]*>)?`__?(?!\w)")
_REFERENCE = re.compile(r"(\[[^\]\s]{1,80}\])_(?!\w)")
_SUBSTITUTION = re.compile(r"\|([^|\s][^|\n]*?)\|_{0,2}")
_RULE_OF_GRID = re.compile(r"[ \t]*\+([-=]+\+)+[ \t]*$")
_RULE_OF_TABLE = re.compile(r"[ \t]*={2,}([ \t]+={2,})+[ \t]*$")
_CODE = frozenset(
    ["code", "code-block", "sourcecode", "parsed-literal", "prompt", "ipython", "doctest", "testcode"]
)
_SETTINGS = frozenset(
    {
        "toctree",
        "contents",
        "index",
        "meta",
        "highlight",
        "currentmodule",
        "module",
        "default-role",
        "sectnum",
    }
    | {"raw", "tabularcolumns", "role", "default-domain", "header", "footer", "class", "container-class"}
)
_OTHER_FILES = frozenset({"include", "literalinclude"})
_IMAGES = frozenset({"image", "figure"})
_ADMONITIONS = frozenset(
    ["note", "warning", "tip", "caution", "danger", "error", "hint", "important", "attention", "seealso"]
)
_MOST_NESTED = 20
"""A directive that is in more than these is written as it is."""


def read_rst(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the page as Markdown. Holds its text in memory."""
    page = Page()
    lines = whole_text(stream, draft).expandtabs(8).split("\n")
    _Reader(lines, page, [], _substitutions(lines)).read()
    page.write(draft)
    return "markdown"


def _substitutions(lines: Sequence[str]) -> dict[str, str]:
    found = (_DIRECTIVE.match(line.strip()) for line in lines if line.lstrip().startswith(".. |"))
    return {one[1]: one[3] for one in found if one and one[2] == "replace" and one[3]}


class _Reader:
    """Reads lines, which may be the content of a directive. `levels`: the kinds of underlines, by level."""

    def __init__(
        self, lines: list[str], page: Page, levels: list[str], substitutions: dict[str, str], depth: int = 0
    ) -> None:
        self._lines = lines
        self._page = page
        self._levels = levels
        self._substitutions = substitutions
        self._depth = depth
        self._at = 0

    def read(self) -> None:
        while self._at < len(self._lines):
            if self._read_heading():
                continue
            line = self._lines[self._at]
            self._at += 1
            stripped = line.strip()
            if stripped == ".." or stripped.startswith(".. "):
                self._read_explicit(line, stripped)
            elif _TARGET.match(stripped):
                self._page.leave_out(Code.LINK_TARGET, stripped)
            elif _RULE_OF_GRID.match(line) or _RULE_OF_TABLE.match(line):
                self._read_rule(stripped)
            else:
                self._read_text(line, stripped)

    def _read_heading(self) -> bool:
        """Read a heading at this line, if there is one: a title above a line of signs, or between two."""
        lines, at = self._lines, self._at
        is_new = at == 0 or not lines[at - 1].strip()
        if not is_new:
            return False
        over = bool(_UNDERLINE.match(lines[at])) and len(lines[at].strip()) > 1
        title_at = at + over
        if title_at + 1 >= len(lines) or (lines[title_at][:1] in ("", " ") and not over):
            return False
        title, below = lines[title_at].strip(), lines[title_at + 1].rstrip()
        is_below = bool(_UNDERLINE.match(below)) and len(below) >= min(len(title), 4)
        if (
            not title
            or not is_below
            or (over and lines[at].strip()[0] != below[0])
            or _UNDERLINE.match(title)
        ):
            return False
        kind = below[0] * (1 + over)
        if kind not in self._levels:
            self._levels.append(kind)
        self._page.heading(self._levels.index(kind) + 1, self._inline(title))
        self._at = title_at + 2
        return True

    def _read_text(self, line: str, stripped: str) -> None:
        if stripped.endswith("::"):
            text = "" if stripped == "::" else line.rstrip()[:-1]
            self._page.text(self._inline(text))
            self._page.code(self._block(len(line) - len(line.lstrip())))
        else:
            self._page.text(self._inline(_FIELD.sub(r"\1: ", line, count=1) if line[:1] == ":" else line))

    def _read_rule(self, rule: str) -> None:
        """A line between the rows of a table: only the one below the header of a grid says something."""
        if rule[0] == "+" and "=" in rule:
            self._page.text("|" + "---|" * (rule.count("+") - 1))

    def _read_explicit(self, line: str, stripped: str) -> None:
        """Read what begins with two dots: a directive, a note, the target of a link, or a comment."""
        block = self._block(len(line) - len(line.lstrip()))
        if directive := _DIRECTIVE.match(stripped):
            self._read_directive(directive[1], directive[2].lower(), (directive[3] or "").strip(), block)
        elif note := _NOTE.match(stripped):
            self._inner([note[1], *_dedented(block)])
        elif _TARGET.match(stripped):
            self._page.leave_out(Code.LINK_TARGET, stripped)
        else:
            self._page.leave_out(Code.MARKUP_COMMENT, "\n".join([stripped[2:], *block]))

    def _read_directive(self, name: str | None, kind: str, argument: str, block: list[str]) -> None:
        options, content = _options(_dedented(block))
        if kind in _OTHER_FILES:
            self._page.leave_out(Code.OTHER_FILE, argument)
        elif kind in _SETTINGS or name is not None:
            self._page.leave_out(Code.MARKUP_SETTING, "\n".join([argument, *block]))
        elif kind in _CODE:
            self._page.text(self._inline(options.get("caption", "")))
            self._page.code(content, re.sub(r"[^\w+-].*", "", argument))
        elif kind in _IMAGES:
            self._inner([options.get("alt", ""), "", *content])
        elif kind in _ADMONITIONS:
            self._inner(
                [f"{kind.capitalize()}: {argument}".rstrip(), *content] if argument or content else []
            )
        else:
            self._inner([argument, "", *content])

    def _inner(self, lines: list[str]) -> None:
        """Read the content of a directive."""
        self._page.blank()
        if self._depth < _MOST_NESTED:
            _Reader(lines, self._page, self._levels, self._substitutions, self._depth + 1).read()
        else:
            for line in lines:
                self._page.text(line)
        self._page.blank()

    def _block(self, indent: int) -> list[str]:
        """The lines that follow with a deeper indentation."""
        start = self._at
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip() and len(line) - len(line.lstrip()) <= indent:
                break
            self._at += 1
        return self._lines[start : self._at]

    def _inline(self, text: str) -> str:
        """Text without the names of roles and the targets of links."""
        if "`" in text:
            text = _LINK.sub(r"\1", _ROLE.sub(r"`\1`", text))
        if "]_" in text:
            text = _REFERENCE.sub(r"\1", text)
        if "|" in text and self._substitutions:
            text = _SUBSTITUTION.sub(lambda one: self._substitutions.get(one[1], one[0]), text)
        return text


def _dedented(block: Sequence[str]) -> list[str]:
    indent = min((len(line) - len(line.lstrip()) for line in block if line.strip()), default=0)
    return [line[indent:] for line in block]


def _options(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options at the beginning of a directive's content, and the rest."""
    options: dict[str, str] = {}
    at = 0
    while at < len(lines) and (option := _OPTION.match(lines[at])):
        options[option[1]] = option[2] or ""
        at += 1
    return options, lines[at:]
