"""Lays out the text of XML: which elements are paragraphs, and which are part of a line.

An element that is in no known vocabulary is part of a line if text stands beside it. This may show only after
the element has ended: so each break between elements can be taken back, until its parent ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

from embedfleet.parsing.xml import vocabulary as names
from embedfleet.parsing.xml.joining import LINE, PARAGRAPH, Joiner, Prefix, Verbatim
from embedfleet.parsing.xml.tokens import Entities, Kind, Token, attributes_of, tokens_of
from embedfleet.parsing.xml.vocabulary import Style

_MOST_PIECES = 20_000
"""This many pieces are written at once, between two elements of the root."""
_HTML = re.compile(
    r"</(?:p|div|a|b|i|em|strong|span|ul|ol|li|h[1-6]|table|td|blockquote|pre|code|figure)\s*>"
    r"|<(?:br|p|img)\b",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\s*\w{2,12}://\S+\s*")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[^\w]+[^\W\d_]{2,}){3}")
"""Four words: an attribute that has them is text for people."""
_LONG_VALUE = 60
_MOST_IN_LINE = 3
_DEEPEST_HEADING = 6
_MAY_STAY_OPEN = ("p", "li", "td", "tr", "dt", "dd")  # in HTML


class Element:
    """An element that is open."""

    __slots__ = (
        "breaks",
        "cells",
        "has_children",
        "has_text",
        "is_titled",
        "label",
        "level",
        "name",
        "start",
    )

    def __init__(self, name: str, level: int) -> None:
        self.name = name
        self.level = level
        """How many elements around it have a title."""
        self.start = 0
        """Where its text begins in the pieces."""
        self.breaks: list[int] = []
        """Where the breaks around its children are that can be taken back."""
        self.has_text = self.has_children = self.is_titled = False
        self.label: int | None = None
        """Where its name is, before a value."""
        self.cells = 0


class Layout:
    """Writes a document, token by token.

    `broken` counts the tags that do not fit together. `addresses` has the values that only say where a link
    leads, `missing` the names of entities and files that are not in the document.
    """

    def __init__(self, write: Callable[[str], None], style: Style | None = None) -> None:
        """`style`: of a fragment of HTML in another document; None: the root element decides."""
        self.entities = Entities()
        self.broken = 0
        self.addresses: list[str] = []
        self.comments: list[str] = []
        self.missing: list[str] = self.entities.missing
        self.style = style
        self._is_fragment = style is not None
        self._joiner = Joiner(write)
        self._pieces: list[str | int] = []
        self._open: list[Element] = []
        self._counts: dict[str, int] = {}
        """How many elements of each name are open."""
        self._unseen: str | None = None
        self._verbatim: Element | None = None
        self._row: Element | None = None
        self._table_is_begun = False
        # The open elements whose text is left out, kept as it is, or written in one line.

    def read(self, text: str) -> None:
        """Write the whole document."""
        for token in tokens_of(text):
            self._take(token)
        while self._open:
            self.broken += self._open[-1].name not in _MAY_STAY_OPEN
            self._close()
        self._joiner.join(self._pieces)

    def _take(self, token: Token) -> None:
        kind = token.kind
        if kind is Kind.CLOSE:
            self._end(token.value.lower())
        elif kind is Kind.COMMENT:
            self.comments.append(token.value)
        elif kind is Kind.DOCTYPE:
            self.entities.declare(token.value)
        elif self._unseen is not None:
            return
        elif kind in (Kind.OPEN, Kind.EMPTY):
            self._begin(token)
        else:
            self._text(token.value if kind is Kind.DATA else self.entities.replaced(token.value))

    def _begin(self, token: Token) -> None:
        name = token.value.lower()
        self.style = self.style or names.style_of(name)
        attributes = attributes_of(token.attributes, self.entities) if "=" in token.attributes else []
        is_empty = token.kind is Kind.EMPTY or (self._is_fragment and name in names.VOID)
        if name in names.UNSEEN:
            self._unseen = None if is_empty else name
        elif name == "include" and attributes and attributes[0][0] == "href":
            self.missing.append(attributes[0][1])
        elif is_empty:
            self._empty(token.value, attributes)
        else:
            self._element(token.value, attributes)

    def _empty(self, written: str, attributes: list[tuple[str, str]]) -> None:
        name = written.lower()
        if name in names.BREAKS:
            self._pieces.append(LINE)
        elif name == "img":
            self._pieces.append(f" {dict(attributes).get('alt', '')} ")
        elif self.style is not Style.DATA:
            self._prose_attributes(attributes)
        elif attributes:
            if self._open:
                self._open[-1].has_children = True
            self._break(name)
            self._data_attributes(written, attributes)
            self._break(name)

    def _data_attributes(self, written: str, attributes: list[tuple[str, str]]) -> None:
        """Write the attributes of an element without text: in one line, or in a line each if long."""
        long = len(attributes) > _MOST_IN_LINE or any(len(value) > _LONG_VALUE for _, value in attributes)
        if long:
            self._pieces.append(PARAGRAPH)
            self._lines(attributes)
            self._pieces.append(PARAGRAPH)
        else:
            values = ", ".join(f"{key}: {value}" for key, value in attributes)
            self._pieces += [Prefix(f"{written}:"), values]

    def _lines(self, attributes: list[tuple[str, str]]) -> None:
        for key, value in attributes:
            self._pieces += [LINE, Prefix(f"{key}:"), _value(value), LINE]

    def _prose_attributes(self, attributes: list[tuple[str, str]]) -> None:
        """Write the attributes that are text for people, such as the description of a picture."""
        for key, value in attributes:
            name = key.lower()
            is_sentence = name not in names.TECHNICAL_ATTRIBUTES and _WORDS.search(value)
            if is_sentence or (name in names.PROSE_ATTRIBUTES and value.strip()):
                self._pieces.append(f" {value} ")

    def _element(self, written: str, attributes: list[tuple[str, str]]) -> None:
        name = written.lower()
        self._break(name)
        parent = self._open[-1] if self._open else None
        element = Element(name, parent.level if parent is not None else 0)
        if parent is not None:
            parent.has_children = True
        self._open.append(element)
        self._counts[name] = self._counts.get(name, 0) + 1
        self._open_part(element)
        if self.style is not Style.DATA:
            self._prose_attributes(attributes)
        elif name not in names.INLINES:
            self._lines(attributes)
        is_value = self.style is not Style.PROSE and name not in names.UNNAMED
        if is_value and (parent is None or not parent.has_text):
            element.label = len(self._pieces)
            if parent is not None:
                parent.breaks.append(element.label)
            self._pieces.append(Prefix(f"{written}:"))
        element.start = len(self._pieces)

    def _open_part(self, element: Element) -> None:
        """Write what marks a heading, an item of a list, a row or a cell."""
        name = element.name
        if name in names.VERBATIM:
            self._verbatim = self._verbatim or element
        elif name in names.TABLES:
            self._table_is_begun = False
        elif name in names.ROWS and self._row is None and any(map(self._counts.get, names.TABLES)):
            self._row = element
        elif name in names.CELLS and self._row is not None:
            self._row.cells += 1
            self._pieces.append("| ")
        elif self.style is Style.DATA:
            return
        elif name in names.HEADINGS and not self._is_fragment:
            self._heading()
        elif name in names.LIST_ITEMS:
            self._pieces.append(Prefix("-"))
        elif name == "footnote":
            self._pieces.append(" (")
        elif name in names.RAISED:
            self._pieces.append("^")

    def _heading(self) -> None:
        """Begin a heading: the element around it now has a title, and all in it is one level deeper."""
        around = len(self._open) - 2
        while around > 0 and self._open[around].name in names.WRAPPERS:
            around -= 1
        if (
            around < 0
            or self._row is not None
            or any(one.name in names.NO_SECTIONS for one in self._open[max(0, around - 1) : -1])
        ):
            return
        section = self._open[around]
        if not section.is_titled:
            section.is_titled = True
            for element in self._open[around:]:
                element.level += 1
            self._pieces += [PARAGRAPH, Prefix("#" * min(section.level, _DEEPEST_HEADING))]

    def _break(self, name: str) -> None:
        """End the line or the paragraph, unless the element is part of a line."""
        strength = PARAGRAPH if self.style is not Style.DATA or name in names.BLOCKS else LINE
        if name in names.IN_LINES:
            strength = LINE
        if self._verbatim is not None or name in names.INLINES or self._counts.get("footnote"):
            return
        parent = self._open[-1] if self._open else None
        if self._row is not None:
            self._pieces.append(" ")
        elif name in names.BLOCKS or parent is None:
            self._pieces.append(strength)
        elif not parent.has_text:
            parent.breaks.append(len(self._pieces))
            self._pieces.append(strength)

    def _text(self, text: str) -> None:
        if self._verbatim is not None:
            self._pieces.append(text)
            return
        if self._open and not text.isspace() and not self._open[-1].has_text:
            element = self._open[-1]
            element.has_text = True
            if element.has_children:
                for at in element.breaks:
                    self._pieces[at] = 0
        self._pieces.append(text)

    def _end(self, name: str) -> None:
        if self._unseen is not None:
            self._unseen = None if name == self._unseen else self._unseen
        elif not self._counts.get(name):
            self.broken += name not in names.VOID
        else:
            while self._open[-1].name != name:
                self.broken += self._open[-1].name not in _MAY_STAY_OPEN
                self._close()
            self._close()

    def _close(self) -> None:
        element = self._open.pop()
        self._counts[element.name] -= 1
        if element.label is not None and element.has_children and not element.has_text:
            self._pieces[element.label] = ""
        if element is self._verbatim:
            self._close_verbatim(element)
        elif element is self._row:
            self._close_row(element)
        elif element.name == "footnote" and self.style is not Style.DATA:
            self._pieces.append(") ")
        elif not element.has_children and self._verbatim is None:
            self._close_value(element)
        self._break(element.name)
        if element.has_children and self.style is Style.DATA and self._open and not self._open[-1].has_text:
            self._open[-1].breaks.append(len(self._pieces))
            self._pieces.append(PARAGRAPH)
        if len(self._open) == 1 and len(self._pieces) > _MOST_PIECES:
            self._write()

    def _write(self) -> None:
        """Write what is between two elements of the root; its breaks cannot be taken back any more."""
        self._joiner.join(self._pieces)
        self._pieces.clear()
        self._open[0].breaks.clear()
        self._open[0].label = None

    def _close_verbatim(self, element: Element) -> None:
        self._verbatim = None
        text = "".join(piece for piece in self._pieces[element.start :] if isinstance(piece, str))
        del self._pieces[element.start :]
        if "\n" not in text.strip("\n") and self._open and self._open[-1].has_text:
            self._pieces.append(text)
        elif self.style is Style.DATA:
            self._pieces.append(Verbatim(text.strip("\n")))
        elif text.strip():
            self._pieces += [PARAGRAPH, Verbatim("```\n" + text.strip("\n") + "\n```"), PARAGRAPH]

    def _close_row(self, row: Element) -> None:
        self._row = None
        self._pieces.append(" |")
        if not self._table_is_begun:
            self._table_is_begun = True
            self._pieces += [LINE, "|" + "---|" * row.cells, LINE]

    def _close_value(self, element: Element) -> None:
        """The value of an element without children is complete: leave out an address, read HTML in it."""
        text = "".join(piece for piece in self._pieces[element.start :] if isinstance(piece, str))
        if not text.strip():
            if element.label is not None:
                self._pieces[element.label] = ""
            return
        stands_alone = not self._open or not self._open[-1].has_text
        may_be_link = self.style is Style.FEED or (
            self.style is Style.PROSE and element.name not in names.INLINES
        )
        if may_be_link and stands_alone and _ADDRESS.fullmatch(text):
            self.addresses.append(text.strip())
            del self._pieces[element.start if element.label is None else element.label :]
        elif "<" in text:
            self._pieces[element.start :] = [_value(text)]
        elif "&" in text and self.style is Style.FEED:
            self._pieces[element.start :] = [unescape(text)]  # a title that is HTML without a tag


def _value(value: str) -> str:
    """A value as a piece of text: that of the HTML in it."""
    if "<" in value and _HTML.search(value):
        return Verbatim(text_of_html(value))
    return value


def text_of_html(fragment: str) -> str:
    """Return the text of HTML that stands in another document, as Markdown without headings."""
    written: list[str] = []
    Layout(written.append, Style.PROSE).read(fragment)
    return "".join(written)
