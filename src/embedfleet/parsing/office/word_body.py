"""The body of a Word document as blocks: headings, paragraphs, items of lists, and tables."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.office.alternatives import ALTERNATIVES, chosen
from embedfleet.parsing.office.blocks import Block, CodeLine, Heading, Item, Paragraph, in_one_line
from embedfleet.parsing.office.drawings import chart_blocks, diagram_blocks
from embedfleet.parsing.office.word_numbering import BULLET
from embedfleet.parsing.office.word_parts import Notes, WordParts
from embedfleet.parsing.office.word_styles import numbered, outline_level
from embedfleet.parsing.office.word_tables import table_blocks
from embedfleet.parsing.office.word_text import Line, TextReader
from embedfleet.parsing.office.xml_part import descend, is_on
from embedfleet.visible_text import letters_in

_LONGEST_HEADING = 250
"""A longer paragraph is text, whatever its outline level. The chunker takes no longer headings."""
_DELETED = frozenset({"w:del", "w:moveFrom"})
_NOT_BLOCKS = frozenset({"w:sectPr", "w:tblPr", "w:tblGrid", "w:tcPr", "w:trPr", "w:sdtPr", "w:sdtEndPr"})


class BodyReader:
    """Turns the elements of a body into blocks. The notes that the text refers to wait in `take_notes`."""

    def __init__(self, parts: WordParts, *, has_title: bool) -> None:
        self._parts = parts
        self._texts = TextReader(parts)
        # Under a title all headings are one level deeper, so that each chunk's headings begin with the title.
        self._shift = 1 if has_title else 0
        self._carried = ""
        self._notes: list[tuple[Notes, str]] = []

    def blocks(self, container: Element) -> Iterator[Block]:
        """Yield the blocks of an element that holds paragraphs and tables."""
        for child in container:
            yield from self._block(child)
        if self._carried:
            carried, self._carried = self._carried, ""
            yield Paragraph(carried)

    def take_notes(self) -> list[tuple[Notes, str]]:
        """Return the notes that were referred to since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def _block(self, node: Element) -> Iterator[Block]:
        tag = node.tag
        if tag == "w:p":
            yield from self._paragraph(node)
        elif tag == "w:tbl":
            self._parts.draft.found("tables")
            yield from table_blocks(node, self.blocks, self._parts.draft)
        elif tag == "w:sdt":
            yield from self._content_control(node)
        elif tag == ALTERNATIVES:
            if (choice := chosen(node)) is not None:
                yield from self._inside(choice)
        elif tag == "w:altChunk":
            self._parts.draft.note(Code.OFFICE_OBJECT, chars=None, place="imported file")
        elif tag in _DELETED:
            self._note(Code.OFFICE_DELETED, node)
        elif tag == "m:oMathPara":
            paragraph = Element("w:p")
            paragraph.append(node)
            yield from self._paragraph(paragraph)
        elif tag not in _NOT_BLOCKS:
            yield from self._inside(node)

    def _inside(self, container: Element) -> Iterator[Block]:
        for child in container:
            yield from self._block(child)

    def _content_control(self, control: Element) -> Iterator[Block]:
        content = control.find("w:sdtContent")
        if content is None:
            return
        gallery = descend(control, "w:sdtPr", "w:docPartObj", "w:docPartGallery")
        if gallery is not None and gallery.get("w:val") == "Table of Contents":
            self._note(Code.OFFICE_CONTENTS, content)
        elif is_on(descend(control, "w:sdtPr", "w:showingPlcHdr")):
            self._note(Code.OFFICE_PROMPT, content)
        else:
            yield from self._inside(content)

    def _note(self, code: Code, left_out: Element) -> None:
        texts = "".join(text.text or "" for tag in ("w:t", "w:delText") for text in left_out.iter(tag))
        if chars := letters_in(texts):
            self._parts.draft.note(code, chars=chars)

    def _paragraph(self, paragraph: Element) -> Iterator[Block]:
        properties = paragraph.find("w:pPr")
        style_id = _style_id(properties)
        was_in_contents = self._texts.in_contents
        line = self._texts.read(paragraph, hidden=self._parts.styles.is_hidden(style_id))
        level = self._heading_level(properties, style_id)
        text = self._carried + line.text()
        self._carried = ""
        self._notes += line.notes
        in_contents = (was_in_contents or self._texts.in_contents) and level is None
        if in_contents or self._parts.styles.is_contents(style_id):
            if chars := letters_in(text):
                self._parts.draft.note(Code.OFFICE_CONTENTS, chars=chars)
        elif _runs_on(properties):
            self._carried = text
        else:
            yield self._of(text, level, properties, style_id)
        yield from self._beside(line)

    def _of(self, text: str, level: int | None, properties: Element | None, style_id: str | None) -> Block:
        label, depth = self._label(properties, style_id, level)
        if level is not None and len(text) <= _LONGEST_HEADING:
            number = "" if label in (None, BULLET) else f"{label} "
            return Heading(level, number + text.strip() if text.strip() else "")
        if label:
            return Item(depth, label, text)
        if self._parts.styles.is_code(style_id):
            return CodeLine(text)
        return Paragraph(text)

    def _heading_level(self, properties: Element | None, style_id: str | None) -> int | None:
        """Return the level of a heading, from 1; None if the paragraph is none."""
        if self._parts.styles.is_title(style_id):
            return 1
        own = outline_level(properties)
        level = own + 1 if own is not None and own < 9 else None
        level = level or self._parts.styles.heading_level(style_id)
        return None if level is None else level + self._shift

    def _label(
        self, properties: Element | None, style_id: str | None, heading: int | None
    ) -> tuple[str | None, int]:
        """Return what Word shows before a paragraph of a list, and its level in the list, from 0."""
        own = numbered(properties)
        said = ([own] if own is not None else []) + self._parts.styles.numbered(style_id)
        list_id = next((one.list_id for one in said if one.list_id is not None), None)
        if list_id is None:
            return None, 0
        by_heading = 0 if heading is None else heading - 1 - self._shift
        level = next((one.level for one in said if one.level is not None), by_heading)
        return self._parts.numbering.label(list_id, level), level

    def _beside(self, line: Line) -> Iterator[Block]:
        """Yield what stands beside a paragraph: text boxes, charts and comments."""
        for box in line.boxes:
            yield from self._inside(box)
        links, package = self._parts.relationships, self._parts.package
        for drawing in line.drawings:
            for chart in drawing.charts:
                yield from chart_blocks(package, links.get(chart))
            for diagram in drawing.diagrams:
                yield from diagram_blocks(package, links.get(diagram))
        for comment_id in line.comments:
            comment = self._parts.comments.get(comment_id)
            if comment is not None:
                yield self._comment(comment)

    def _comment(self, comment: Element) -> Paragraph:
        self._parts.draft.found("comments")
        author = " ".join(comment.get("w:author", "").split())
        # Only text: a comment that refers to itself would never end.
        lines = (self._texts.read(one, hidden=False).text() for one in comment.iter("w:p"))
        return Paragraph(f"Comment{f' by {author}' if author else ''}: {' '.join(lines)}")

    def note_text(self, note: Element) -> str:
        """Return the text of a footnote or endnote in one line."""
        return in_one_line(self.blocks(note))


def _style_id(properties: Element | None) -> str | None:
    style = None if properties is None else properties.find("w:pStyle")
    return None if style is None else style.get("w:val")


def _runs_on(properties: Element | None) -> bool:
    """Whether the next paragraph goes on with this one: its end is deleted, or it is a large first letter."""
    if properties is None:
        return False
    frame = properties.find("w:framePr")
    is_first_letter = frame is not None and frame.get("w:dropCap") in ("drop", "margin")
    return is_first_letter or descend(properties, "w:rPr", "w:del") is not None


def has_title(body: Element, parts: WordParts) -> bool:
    """Whether one of the first paragraphs has the style of a title."""
    for paragraph in body.iter("w:p"):
        style_id = _style_id(paragraph.find("w:pPr"))
        if parts.styles.is_title(style_id):
            return True
        if parts.styles.heading_level(style_id) is not None:
            return False
    return False
