"""PowerPoint presentations (.pptx, .pptm, .ppsx, .potx): a heading for each slide, its text and its notes."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.office.alternatives import ALTERNATIVES, chosen
from embedfleet.parsing.office.blocks import Block, BlockWriter, Heading, Paragraph
from embedfleet.parsing.office.drawings import chart_blocks, diagram_blocks, read_drawing
from embedfleet.parsing.office.package import Package, Relationship
from embedfleet.parsing.office.slide_text import paragraphs, table_of, text_of
from embedfleet.visible_text import letters_in

_TITLES = frozenset({"title", "ctrTitle"})
_RUNNING = frozenset({"dt", "ftr", "sldNum", "hdr"})
_LISTED = frozenset({"body", "obj", ""})  # placeholders whose paragraphs have bullets; "" is that of content


def read_powerpoint(package: Package, main_part: str, root: Element, draft: Draft) -> ContentType:
    """Write the slides in their order. Holds one slide in memory. A broken slide loses only itself."""
    writer = BlockWriter(draft)
    links = package.relationships(main_part)
    for number, entry in enumerate(root.iter("p:sldId"), start=1):
        link = links.get(entry.get("r:id", ""))
        part = None if link is None else link.target
        slide = package.part_if_whole(part, place=f"slide {number}")
        if slide is None or part is None:
            continue
        if slide.get("show") in ("0", "false"):
            chars = letters_in("".join(text.text or "" for text in slide.iter("a:t")))
            draft.note(Code.HIDDEN, chars=chars, place=f"slide {number}")
            continue
        draft.found("pages")
        writer.begin_page(number)
        for block in _Slide(package, part, number, draft).blocks(slide):
            writer.add(block)
    writer.end()
    if package.title is not None and package.title not in writer.first_text:
        draft.title = package.title
    return "markdown"


class _Slide:
    """Reads one slide: its title first, then its shapes in the order in which a screen reader takes them."""

    def __init__(self, package: Package, part: str, number: int, draft: Draft) -> None:
        self._package = package
        self._part = part
        self._number = number
        self._draft = draft
        self._links: dict[str, Relationship] = package.relationships(part)

    def blocks(self, slide: Element) -> Iterator[Block]:
        shapes = list(_shapes(slide))
        titles = [shape for shape in shapes if _placeholder(shape) in _TITLES]
        title = " ".join(" ".join(text_of(line) for shape in titles for line in shape.iter("a:p")).split())
        content = [block for shape in shapes if shape not in titles for block in self._shape(shape)]
        content += [*self._notes(), *self._comments()]
        # A slide without a title has a heading of its own, too: it does not belong below the title before it.
        if title or content:
            yield Heading(1, title or f"Slide {self._number}")
        yield from content

    def _shape(self, shape: Element) -> Iterator[Block]:
        kind = _placeholder(shape)
        if kind in _RUNNING:
            if chars := letters_in("".join(text.text or "" for text in shape.iter("a:t"))):
                self._draft.note(Code.RUNNING_HEAD, chars=chars)
            return
        body, table = shape.find("p:txBody"), next(shape.iter("a:tbl"), None)
        if body is not None:
            yield from paragraphs(body, listed=kind in _LISTED)
        elif table is not None:
            self._draft.found("tables")
            yield table_of(table)
        else:
            yield from self._drawing(shape)

    def _drawing(self, shape: Element) -> Iterator[Block]:
        drawing = read_drawing(_around(shape), self._draft)
        if drawing.description:
            yield Paragraph(drawing.description)
        for chart in drawing.charts:
            yield from chart_blocks(self._package, self._links.get(chart))
        for diagram in drawing.diagrams:
            yield from diagram_blocks(self._package, self._links.get(diagram))

    def _notes(self) -> Iterator[Block]:
        for name in self._package.related(self._part, "notesSlide"):
            notes = self._package.part_if_whole(name, place=f"notes of slide {self._number}")
            bodies = [] if notes is None else [one for one in _shapes(notes) if _placeholder(one) == "body"]
            lines = [text_of(line).strip() for body in bodies for line in body.iter("a:p")]
            text = "\n".join(filter(None, lines))
            if text:
                self._draft.found("notes")
                yield Paragraph(f"Notes: {text}")

    def _comments(self) -> Iterator[Block]:
        for name in self._package.related(self._part, "comments"):
            part = self._package.part_if_whole(name, place=f"comments of slide {self._number}")
            if part is None:
                continue
            old = [one.text or "" for one in part.iter("p:text")]
            new = ["".join(text.text or "" for text in one.iter("a:t")) for one in part.iter("p188:txBody")]
            for text in filter(str.strip, old + new):
                self._draft.found("comments")
                yield Paragraph(f"Comment: {' '.join(text.split())}")


def _shapes(node: Element) -> Iterator[Element]:
    """Yield the shapes of a slide, also those in groups, each once."""
    for child in node:
        if child.tag in ("p:sp", "p:pic", "p:graphicFrame", "p:cxnSp", "p:contentPart"):
            yield child
        elif child.tag == ALTERNATIVES:
            if (choice := chosen(child)) is not None:
                yield from _shapes(choice)
        elif child.tag in ("p:cSld", "p:spTree", "p:grpSp"):
            yield from _shapes(child)


def _placeholder(shape: Element) -> str | None:
    """Return the kind of placeholder of the slide's layout that a shape fills; None if it fills none."""
    holder = next(shape.iter("p:ph"), None)
    return None if holder is None else holder.get("type", "")


def _around(shape: Element) -> Element:
    """Return a shape as the only child of an element, as drawings are read."""
    around = Element("p:spTree")
    around.append(shape)
    return around
