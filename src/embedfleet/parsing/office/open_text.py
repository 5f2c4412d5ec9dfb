"""Paragraphs, lists, tables and frames of OpenDocument files as blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.office.blocks import Block, CodeLine, Heading, Item, Paragraph, Table, in_one_line
from embedfleet.parsing.office.open_grid import grid_of
from embedfleet.parsing.office.open_styles import ListLevel, OpenStyles, label
from embedfleet.parsing.office.package import Package
from embedfleet.parsing.office.scripts import Script, joined
from embedfleet.parsing.office.word_styles import whole_number
from embedfleet.parsing.office.xml_part import BrokenPart
from embedfleet.visible_text import letters_in

_SPACE = re.compile(r"[ \t\r\n]+")
_MOST_SPACES = 200  # in a row; more say nothing
_PARAGRAPHS = frozenset({"text:p", "text:h"})
_CONTENTS = frozenset(
    f"text:{kind}"
    for kind in ("table-of-content", "illustration-index", "table-index", "alphabetical-index", "user-index")
) | {"text:object-index"}
_SHAPES = frozenset(
    f"draw:{kind}"
    for kind in (
        "frame",
        "g",
        "a",
        "custom-shape",
        "rect",
        "ellipse",
        "circle",
        "line",
        "polygon",
        "polyline",
    )
) | frozenset(f"draw:{kind}" for kind in ("path", "connector", "caption", "regular-polygon", "measure"))
_NOT_TEXT = frozenset(
    {"office:annotation-end", "text:note-citation", "text:tracked-changes", "svg:title", "svg:desc"}
)


@dataclass
class _Line:
    """The text of a paragraph, and what is in it but not of its text."""

    pieces: list[tuple[Script, str]] = field(default_factory=list)
    shapes: list[Element] = field(default_factory=list)
    comments: list[Element] = field(default_factory=list)


class OpenReader:
    """Turns elements into blocks. Notes wait in `notes`, each with its label, to be taken by the caller."""

    def __init__(
        self, package: Package, styles: OpenStyles, draft: Draft, *, has_title: bool = False
    ) -> None:
        self._package = package
        self._styles = styles
        self._draft = draft
        self._shift = 1 if has_title else 0
        self._labels: set[str] = set()
        self._list_counts: dict[str, dict[int, int]] = {}
        self._outline_counts: dict[int, int] = {}
        self.notes: list[tuple[str, str]] = []

    def blocks(self, container: Element) -> Iterator[Block]:
        """Yield the blocks of an element that holds paragraphs, lists, tables and shapes."""
        for child in container:
            yield from self._block(child)

    def _block(self, node: Element) -> Iterator[Block]:
        tag = node.tag
        if tag in _PARAGRAPHS:
            yield from self._paragraph(node)
        elif tag == "text:list":
            yield from self._list(node, 0, None, {})
        elif tag == "table:table":
            yield from self.table(node)
        elif tag in _SHAPES:
            yield from self.shape(node)
        elif tag == "text:tracked-changes":
            for deleted in node.iter("text:deletion"):
                self._note(Code.OFFICE_DELETED, deleted)
        elif tag in _CONTENTS:
            self._note(Code.OFFICE_CONTENTS, node)
        elif tag == "text:section" and node.get("text:display") == "none":
            self._note(Code.HIDDEN, node, place=f"section {node.get('text:name', '')}")
        elif tag == "office:annotation":
            yield self._comment(node)
        elif tag == "office:forms":
            yield from map(Paragraph, _filled_fields(node))
        elif tag not in ("text:bibliography-source", "text:sequence-decls"):
            yield from self.blocks(node)

    def _note(self, code: Code, left_out: Element, *, place: str | None = None) -> None:
        texts = ["".join(line.itertext()) for tag in _PARAGRAPHS for line in left_out.iter(tag)]
        if chars := letters_in("".join(texts)):
            self._draft.note(code, chars=chars, place=place)

    def _paragraph(self, node: Element, item: tuple[int, str] | None = None) -> Iterator[Block]:
        style = node.get("text:style-name")
        line = self._line(node, hidden=self._styles.is_hidden("paragraph", style))
        text = joined(line.pieces)
        if node.tag == "text:h":
            yield self._heading(node, text, "" if item is None else item[1])
        elif self._styles.is_title(style):
            yield Heading(1, text)
        elif item is not None and item[1]:
            yield Item(*item, text)
        elif self._styles.is_code(style):
            yield CodeLine(text)
        else:
            yield Paragraph(text)
        for shape in line.shapes:
            yield from self.shape(shape)
        for comment in line.comments:
            yield self._comment(comment)

    def _heading(self, node: Element, text: str, number: str) -> Heading:
        level = min(whole_number(node.get("text:outline-level"), default=1), 10)
        place = max(level, 1) - 1
        outline = self._styles.outline
        if not number and text.strip() and outline.get(place, ListLevel()).format:
            _count(self._outline_counts, place, outline.get(place, ListLevel()).start)
            number = label(outline, self._outline_counts, place)
        number = "" if number == "-" else number
        return Heading(place + 1 + self._shift, f"{number} {text}" if number and text.strip() else text)

    def _list(self, node: Element, depth: int, style: str | None, counts: dict[int, int]) -> Iterator[Block]:
        style = node.get("text:style-name") or style
        goes_on = node.get("text:continue-numbering") == "true" or node.get("text:continue-list")
        if depth == 0:
            counts = self._list_counts.get(style or "", {}) if goes_on else {}
            self._list_counts[style or ""] = counts
        elif not goes_on:
            counts.pop(depth, None)
        levels = self._styles.list_levels(style)
        for entry in node:
            if entry.tag == "text:list-item":
                start = entry.get("text:start-value")
                if start is not None:
                    counts[depth] = whole_number(start, default=1) - 1
                yield from self._entry(entry, depth, style, levels, counts)
            elif entry.tag == "text:list-header":
                yield from self.blocks(entry)

    def _entry(
        self,
        entry: Element,
        depth: int,
        style: str | None,
        levels: dict[int, ListLevel],
        counts: dict[int, int],
    ) -> Iterator[Block]:
        """Yield an item of a list: its first paragraph has the label."""
        is_first = True
        for child in entry:
            if child.tag == "text:list":
                yield from self._list(child, depth + 1, style, counts)
            elif child.tag in _PARAGRAPHS and is_first:
                is_first = False
                _count(counts, depth, levels.get(depth, ListLevel()).start)
                yield from self._paragraph(child, (depth, label(levels, counts, depth)))
            else:
                yield from self._block(child)

    def _line(self, node: Element, *, hidden: bool = False) -> _Line:
        line = _Line()
        self._walk(node, line, "", hidden)
        return line

    def _walk(self, node: Element, line: _Line, script: Script, hidden: bool) -> None:
        self._text(node.text, line, script, hidden)
        for child in node:
            self._inline(child, line, script, hidden)
            self._text(child.tail, line, script, hidden)

    def _text(self, text: str | None, line: _Line, script: Script, hidden: bool) -> None:
        if not text:
            return
        if hidden:
            if chars := letters_in(text):
                self._draft.note(Code.HIDDEN, chars=chars, place="hidden text")
        else:
            line.pieces.append((script, _SPACE.sub(" ", text)))

    def _inline(self, node: Element, line: _Line, script: Script, hidden: bool) -> None:
        tag = node.tag
        if tag == "text:span":
            style = node.get("text:style-name")
            own = self._styles.script(style)
            self._walk(node, line, own or script, hidden or self._styles.is_hidden("text", style))
        elif tag == "text:s":
            count = min(whole_number(node.get("text:c"), default=1), _MOST_SPACES)
            line.pieces.append((script, " " * count))
        elif tag in ("text:tab", "text:line-break"):
            line.pieces.append(("", " " if tag == "text:tab" else "\n"))
        elif tag == "text:note":
            line.pieces.append(("", f"[^{self._take_note(node)}]"))
        elif tag == "office:annotation":
            line.comments.append(node)
        elif tag in _SHAPES:
            self._inline_shape(node, line)
        elif tag == "text:hidden-text":
            self._text(node.get("text:string-value") or "".join(node.itertext()), line, script, hidden=True)
        elif tag == "text:placeholder":
            self._draft.note(Code.OFFICE_PROMPT, chars=letters_in("".join(node.itertext())))
        elif tag == "text:ruby":
            base, reading = node.find("text:ruby-base"), node.find("text:ruby-text")
            if base is not None:
                self._walk(base, line, script, hidden)
            self._text(f"({reading.text})" if reading is not None and reading.text else "", line, "", hidden)
        elif tag not in _NOT_TEXT:
            self._walk(node, line, script, hidden)

    def _inline_shape(self, node: Element, line: _Line) -> None:
        """Write a formula in its sentence; other shapes follow the paragraph."""
        formula = self._formula(node)
        if formula is None:
            line.shapes.append(node)
        else:
            line.pieces.append(("", f"${formula}$"))

    def _take_note(self, node: Element) -> str:
        citation = node.find("text:note-citation")
        shown = "" if citation is None else "".join("".join(citation.itertext()).split())
        prefix = "e" if node.get("text:note-class") == "endnote" else ""
        own = prefix + (shown or str(len(self._labels) + 1))
        if own in self._labels:  # each page may count its notes from 1
            own = f"{own}-{len(self._labels) + 1}"
        self._labels.add(own)
        body = node.find("text:note-body")
        self._draft.found("endnotes" if prefix else "footnotes")
        self.notes.append((own, "" if body is None else in_one_line(self.blocks(body))))
        return own

    def _comment(self, node: Element) -> Paragraph:
        self._draft.found("comments")
        author = " ".join((node.findtext("dc:creator") or "").split())
        text = " ".join(" ".join("".join(line.itertext()).split()) for line in node.iter("text:p"))
        return Paragraph(f"Comment{f' by {author}' if author else ''}: {text}")

    def table(self, node: Element) -> Iterator[Block]:
        """Yield a table of a text as rows, or its cells one by one if it only lays out the page."""
        self._draft.found("tables")
        cells: list[list[Block]] = []

        def text_of(cell: Element) -> str:
            cells.append(list(self.blocks(cell)))
            return in_one_line(cells[-1])

        grid = grid_of(node, text_of)
        grid.note_hidden(self._draft, "table")
        rows = [row for row in grid.rows if any(row)]
        has_headings = any(isinstance(block, Heading) for blocks in cells for block in blocks)
        if has_headings or max(map(len, rows), default=0) <= 1:
            for blocks in cells:
                yield from blocks
        elif len(rows) == 1:
            yield Paragraph(" | ".join(filter(None, rows[0])))
        else:
            yield Table(rows, max(1, min(grid.headers, len(rows) - 1)))

    def shape(self, node: Element) -> Iterator[Block]:
        """Yield what a frame or another shape shows."""
        tag = node.tag
        described = " ".join(filter(None, (node.findtext("svg:title"), node.findtext("svg:desc"))))
        if tag in ("draw:g", "draw:a"):
            yield from (block for child in node if child.tag in _SHAPES for block in self.shape(child))
            return
        if tag != "draw:frame":
            yield from self.blocks(node)
            return
        formula = self._formula(node)
        if formula is not None:
            yield Paragraph(f"$${formula}$$")
            return
        box, table = node.find("draw:text-box"), node.find("table:table")
        if box is not None:
            yield from self.blocks(box)
        elif table is not None:
            yield from self.table(table)
        elif node.find("draw:object") is not None:
            yield from self._chart(node)
        elif node.find("draw:object-ole") is not None or node.find("draw:plugin") is not None:
            self._draft.note(Code.OFFICE_OBJECT, chars=None, place="unknown program")
        elif described.strip():
            yield Paragraph(described)
        elif node.find("draw:image") is not None:
            self._draft.note(Code.IMAGE)

    def _object(self, node: Element) -> Element | None:
        """Return the root of the document that is embedded in a frame; None if there is none."""
        embedded = node.find("draw:object")
        if embedded is None:
            return None
        inline = next(iter(embedded), None)
        href = embedded.get("xlink:href", "")
        if inline is not None or not href:
            return inline
        try:
            return self._package.part(f"{href.removeprefix('./').rstrip('/')}/content.xml")
        except BrokenPart:
            return None

    def _formula(self, node: Element) -> str | None:
        """Return the formula of a frame as its author typed it; None if the frame has none."""
        root = self._object(node)
        if root is None or root.tag != "mml:math":
            return None
        typed = next((one.text for one in root.iter("mml:annotation") if one.text), None)
        return " ".join((typed or " ".join(root.itertext())).split())

    def _chart(self, node: Element) -> Iterator[Block]:
        root = self._object(node)
        chart = None if root is None else next(root.iter("chart:chart"), None)
        if chart is None:
            self._draft.note(Code.OFFICE_OBJECT, chars=None, place="unknown program")
            return
        for tag in ("chart:title", "chart:subtitle"):
            for title in chart.iter(tag):
                yield Paragraph(" ".join("".join(title.itertext()).split()))
        for table in chart.iter("table:table"):
            yield from self.table(table)


def _count(counts: dict[int, int], place: int, start: int) -> None:
    """Count an item of a level, after which deeper levels begin again."""
    counts[place] = counts.get(place, start - 1) + 1
    for deeper in [one for one in counts if one > place]:
        del counts[deeper]


def _filled_fields(forms: Element) -> Iterator[str]:
    """The fields of forms that have a value, as `name: value`."""
    for control in forms.iter():
        if control.tag == "form:password":
            continue
        name = control.get("form:label") or control.get("form:title") or control.get("form:name") or ""
        value = control.get("form:current-value") or ""
        if control.get("form:current-state") == "checked" or control.get("form:current-selected") == "true":
            value = value or control.get("form:value") or "yes"
        if value:
            yield f"{name}: {value}" if name else value
