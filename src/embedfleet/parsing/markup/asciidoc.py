"""AsciiDoc: headings by their signs, blocks of code, tables; comments and attributes are left out."""

from __future__ import annotations

import re
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.markup.page import Page
from embedfleet.parsing.text import whole_text

_HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*?)(?:[ \t]+\1)?[ \t]*$")
_UNDERLINES = "=-~^+"
_UNDERLINE = re.compile(r"([=\-~^+])\1+[ \t]*$")
_ATTRIBUTE = re.compile(r":(!?[\w-]+!?):(?:[ \t]+(.*))?$")
_BLOCK_ATTRIBUTES = re.compile(r"\[(?!\[)([^\[\]]*)\][ \t]*$|\[\[[^\]]*\]\][ \t]*$")
_SOURCE = re.compile(r"(?:source)?,[ \t]*(\w[\w+-]*)|source%\w+,[ \t]*(\w[\w+-]*)")
_CODE_FENCE = re.compile(r"(-{4,}|\.{4,}|```+)(\w*)[ \t]*$")
_COMMENT_FENCE = re.compile(r"/{4,}[ \t]*$")
_RAW_FENCE = re.compile(r"\+{4,}[ \t]*$")
_OTHER_FENCE = re.compile(r"(?:={4,}|\*{4,}|_{4,}|--|\"{4,})[ \t]*$")
_TABLE_FENCE = re.compile(r"[|,:!]={3,}[ \t]*$")
_DIRECTIVE = re.compile(r"(ifdef|ifndef|ifeval|endif|toc)::")
_BLOCK_IMAGE = re.compile(r"(?:image|video|audio)::[^\[\s]*\[([^\]]*)\][ \t]*$")
_INCLUDE = re.compile(r"include::([^\[\s]+)\[[^\]]*\][ \t]*$")
_RULE = re.compile(r"(?:'{3,}|<{3,}|\+)[ \t]*$")
_TITLE = re.compile(r"\.([^\s.].*)$")
_ITEM = re.compile(r"[ \t]*(\*+|\.+|-)[ \t]+(?=\S)")
_ANCHOR = re.compile(r"\[\[[^\[\]]+\]\]|\[#[\w-]+\](?=[#\w])|anchor:[\w-]+\[\]")
_REFERENCE = re.compile(r"<<([^<>,]+)(?:,[ \t]*([^<>]+))?>>")
_MACRO = re.compile(
    r"\b(?:link:|xref:|mailto:)[^\s\[]+\[([^\]]*)\]|(\bhttps?://[^\s\[\]]+)\[([^\]]*)\]"
    r"|\b(?:kbd|btn|menu|pass|icon|image):[^\s\[]*\[([^\]]*)\]|\bfootnote(?:ref)?:[^\s\[]*\[([^\]]*)\]"
)
_NAMED = re.compile(r"\{([\w-]+)\}")
_CELL = re.compile(r"(?:(?<=\s)|^)(?:[\d.]*[+*])?(?:[<^>.]*[aehlmdsv]?)?\|(?!=)")
_METADATA = frozenset({"author", "description", "keywords", "revdate", "email"})


def read_asciidoc(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the page as Markdown. Holds its text in memory."""
    _Reader(whole_text(stream, draft).split("\n")).read().write(draft)
    return "markdown"


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0
        self._page = Page()
        self._names: dict[str, str] = {}
        """The attributes of the page, which its text may name."""
        self._language = ""

    def read(self) -> Page:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if not (self._read_block(line) or self._read_mark(line) or self._read_heading(line)):
                if line.strip():
                    self._language = ""
                self._page.text(self._inline(_ITEM.sub(_item, line, count=1)))
        return self._page

    def _read_block(self, line: str) -> bool:
        """Read a block between two equal lines, and return whether one begins here."""
        fence = line.rstrip()
        if _COMMENT_FENCE.match(line):
            self._page.leave_out(Code.MARKUP_COMMENT, "\n".join(self._until(fence)))
        elif code := _CODE_FENCE.match(line):
            self._page.code(self._until(code[1]), code[2] or self._language)
            self._language = ""
        elif _RAW_FENCE.match(line):
            self._page.leave_out(Code.MARKUP_SETTING, "\n".join(self._until(fence)))
        elif _TABLE_FENCE.match(line):
            self._table(self._until(fence))
        else:
            return False
        return True

    def _read_mark(self, line: str) -> bool:
        """Read a line that is not text: a comment, a setting, an image, the title of a block."""
        if line.startswith("//") and not line.startswith("///"):
            self._page.leave_out(Code.MARKUP_COMMENT, line[2:])
        elif attribute := _ATTRIBUTE.match(line):
            self._attribute(attribute[1], (attribute[2] or "").strip())
        elif _BLOCK_ATTRIBUTES.match(line):
            self._block_attributes(line.strip()[1:-1])
        elif include := _INCLUDE.match(line):
            self._page.leave_out(Code.OTHER_FILE, include[1])
        elif image := _BLOCK_IMAGE.match(line):
            self._page.text(self._inline(_first_value(image[1])))
        elif _DIRECTIVE.match(line) or _RULE.match(line):
            self._page.leave_out(Code.MARKUP_SETTING, line)
        elif _OTHER_FENCE.match(line):
            self._page.blank()
        elif title := _TITLE.match(line):
            self._page.text(self._inline(title[1]))
            self._page.blank()
        else:
            return False
        return True

    def _read_heading(self, line: str) -> bool:
        below = self._lines[self._at] if self._at < len(self._lines) else ""
        if heading := _HEADING.match(line):
            self._page.heading(len(heading[1]), self._inline(heading[2]))
        elif self._underlines(line, below):
            self._page.heading(_UNDERLINES.index(below[0]) + 1, self._inline(line.strip()))
            self._at += 1
        else:
            return False
        return True

    def _underlines(self, title: str, below: str) -> bool:
        """Whether a line of signs makes a title of the line above it, as in old pages."""
        is_title = title[:1].isalnum() and (self._at < 2 or not self._lines[self._at - 2].strip())
        return (
            is_title and bool(_UNDERLINE.match(below)) and abs(len(below.rstrip()) - len(title.rstrip())) <= 1
        )

    def _attribute(self, name: str, value: str) -> None:
        self._names[name] = value
        if name in _METADATA and value:
            self._page.text(f"{name}: {value}")
        elif name == "doctitle":
            self._page.title = value
        else:
            self._page.leave_out(Code.MARKUP_SETTING, f"{name} {value}")

    def _block_attributes(self, attributes: str) -> None:
        source = _SOURCE.match(attributes)
        self._language = (source[1] or source[2]) if source else self._language
        if attributes.isupper() and attributes.isalpha():  # NOTE, TIP, WARNING
            self._page.text(f"{attributes}:")

    def _table(self, lines: list[str]) -> None:
        """Write the cells in rows of as many columns as the first line has."""
        cells: list[str] = []
        columns = 0
        for line in lines:
            if line.startswith("//"):
                self._page.leave_out(Code.MARKUP_COMMENT, line[2:])
                continue
            before, *parts = _CELL.split(line)
            if before.strip() and cells:
                cells[-1] += f" {before.strip()}"
            cells += [part.strip() for part in parts]
            columns = columns or len(parts)
        self._page.blank()
        for start in range(0, len(cells), columns or 1):
            self._page.row([self._inline(cell) for cell in cells[start : start + columns]], first=start == 0)
        self._page.blank()

    def _until(self, fence: str) -> list[str]:
        """The lines before the one that ends a block; up to the end of the page if none does."""
        start = self._at
        while self._at < len(self._lines) and self._lines[self._at].rstrip() != fence:
            self._at += 1
        self._at += 1
        return self._lines[start : self._at - 1]

    def _inline(self, text: str) -> str:
        """Text without anchors and the targets of links, with attributes replaced."""
        if "{" in text:
            text = _NAMED.sub(lambda one: self._names.get(one[1]) or one[0], text)
        if "[" in text:
            text = _MACRO.sub(_of_macro, _ANCHOR.sub("", text))
        if "<<" in text:
            text = _REFERENCE.sub(lambda one: one[2] or one[1], text)
        return text


def _item(item: re.Match[str]) -> str:
    return "  " * (len(item[1]) - 1) + "- "


def _first_value(attributes: str) -> str:
    """The text among the attributes of an image: the first one, which has no name."""
    first = attributes.split(",")[0].strip().strip('"')
    named = re.search(r"\balt=\"?([^\",]+)", attributes)
    return named[1] if named else "" if "=" in first else first


def _of_macro(macro: re.Match[str]) -> str:
    text, address, text_of_address, other, footnote = macro.groups()
    if footnote is not None:
        return f" ({footnote})"
    if address is not None:
        return text_of_address.rstrip("^") or address
    return (text if text is not None else other) or ""
