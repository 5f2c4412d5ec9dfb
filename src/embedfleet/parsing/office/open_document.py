"""OpenDocument files: texts (.odt), spreadsheets (.ods), presentations (.odp) and drawings (.odg)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.office.blocks import Block, BlockWriter, Heading, Paragraph, markdown
from embedfleet.parsing.office.open_grid import grid_of
from embedfleet.parsing.office.open_styles import OpenStyles
from embedfleet.parsing.office.open_text import OpenReader
from embedfleet.parsing.office.package import Package, real_title
from embedfleet.parsing.office.sheet_rows import with_group_names, write_sheet
from embedfleet.parsing.office.xml_part import BrokenPart, descend
from embedfleet.visible_text import letters_in

_RUNNING = frozenset({"header", "footer", "date-time", "page-number"})


def read_open_document(package: Package, main_part: str, root: Element, draft: Draft) -> ContentType:
    """Write a document. Holds the tree of its content in memory, about ten times the size of its XML."""
    _refuse_encrypted(package)
    styles_part = package.part_if_whole("styles.xml", place="styles") if package.has("styles.xml") else None
    styles = OpenStyles([one for one in (styles_part, root) if one is not None])
    body = root.find("office:body")
    content = None if body is None else next(iter(body), None)
    if content is None:
        raise ParseError("is broken (it has no body): repair it or leave it out")
    writer = BlockWriter(draft)
    _writer_of(content)(content, package, styles, writer, draft)
    writer.end()
    _note_running_heads(styles_part, draft)
    title = _title(package)
    if title is not None and title not in writer.first_text:
        draft.title = title
    return "markdown"


Write = Callable[[Element, Package, OpenStyles, BlockWriter, Draft], None]


def _writer_of(content: Element) -> Write:
    writers: dict[str, Write] = {
        "office:text": _write_text,
        "office:spreadsheet": _write_sheets,
        "office:presentation": _write_slides,
        "office:drawing": _write_slides,
    }
    writer = writers.get(content.tag)
    if writer is None:
        kind = content.tag.rsplit(":", maxsplit=1)[-1]
        raise ParseError(f"is an OpenDocument file of another kind ({kind}): export it as PDF")
    return writer


def _refuse_encrypted(package: Package) -> None:
    try:
        manifest = package.part("META-INF/manifest.xml")
    except BrokenPart:
        return
    if any(entry.tag == "manifest:encryption-data" for entry in manifest.iter()):
        raise ParseError("is encrypted: remove the password and try again")


def _title(package: Package) -> str | None:
    try:
        meta = package.part("meta.xml")
    except BrokenPart:
        return None
    title = descend(meta, "office:meta", "dc:title")
    return real_title(None if title is None else title.text)


def _note_running_heads(styles: Element | None, draft: Draft) -> None:
    heads = [] if styles is None else [one for page in styles.iter("style:master-page") for one in page]
    texts = {"".join(one.itertext()) for one in heads if one.tag.startswith(("style:header", "style:footer"))}
    for text in sorted(filter(str.strip, texts)):
        draft.note(Code.RUNNING_HEAD, chars=letters_in(text))


def _write_text(
    content: Element, package: Package, styles: OpenStyles, writer: BlockWriter, draft: Draft
) -> None:
    has_title = any(styles.is_title(one.get("text:style-name")) for one in content.findall("text:p"))
    reader = OpenReader(package, styles, draft, has_title=has_title)
    for block in reader.blocks(content):
        writer.add(block)
        _add_notes(reader, writer)
    _add_notes(reader, writer)


def _add_notes(reader: OpenReader, writer: BlockWriter) -> None:
    notes, reader.notes = reader.notes, []
    for label, text in notes:
        writer.add_note(label, text)


def _write_sheets(
    content: Element, package: Package, styles: OpenStyles, writer: BlockWriter, draft: Draft
) -> None:
    reader = OpenReader(package, styles, draft)
    for sheet in content.findall("table:table"):
        name = " ".join(sheet.get("table:name", "").split())
        comments: list[Element] = []
        shapes: list[Element] = []

        def text_of(cell: Element, comments: list[Element] = comments, shapes: list[Element] = shapes) -> str:
            comments += cell.findall("office:annotation")
            shapes += [one for one in cell if one.tag.startswith("draw:")]
            lines = ("".join(_texts(line)) for line in cell.findall("text:p"))
            return " ".join(" ".join(lines).split()) or cell.get("office:value", "")

        grid = grid_of(sheet, text_of)
        if styles.is_hidden("table", sheet.get("table:style-name")):
            chars = sum(letters_in(text) for row in grid.rows for text in row)
            draft.note(Code.HIDDEN, chars=chars, place=f"sheet {name}")
            continue
        grid.note_hidden(draft, f"sheet {name}")
        shapes += [shape for holder in sheet.findall("table:shapes") for shape in holder]
        beside = [block for shape in shapes for block in reader.shape(shape)]
        beside += [block for comment in comments for block in reader.blocks(_around(comment))]
        rows = with_group_names([list(row) for row in grid.rows], grid.wide)
        if beside or any(any(row) for row in rows):
            draft.found("sheets")
            draft.write(f"# {name}\n\n")
            write_sheet(rows, draft)
            draft.write("".join(f"{text}\n\n" for block in beside if (text := markdown(block))))


def _texts(line: Element) -> Iterator[str]:
    """Yield the texts of a paragraph of a cell, with its spaces."""
    yield line.text or ""
    for child in line:
        if child.tag in ("text:s", "text:tab", "text:line-break"):
            yield " "
        yield from _texts(child)
        yield child.tail or ""


def _around(node: Element) -> Element:
    around = Element("office:text")
    around.append(node)
    return around


def _write_slides(
    content: Element, package: Package, styles: OpenStyles, writer: BlockWriter, draft: Draft
) -> None:
    kind = "Slide" if content.tag == "office:presentation" else "Page"
    reader = OpenReader(package, styles, draft)
    for number, page in enumerate(content.findall("draw:page"), start=1):
        if styles.is_hidden("drawing-page", page.get("draw:style-name")):
            chars = letters_in("".join("".join(one.itertext()) for one in page.iter("text:p")))
            draft.note(Code.HIDDEN, chars=chars, place=f"slide {number}")
            continue
        draft.found("pages")
        writer.begin_page(number)
        for block in _page_blocks(page, reader, f"{kind} {number}", draft):
            writer.add(block)


def _page_blocks(page: Element, reader: OpenReader, name: str, draft: Draft) -> Iterator[Block]:
    titles: list[str] = []
    blocks: list[Block] = []
    for child in page:
        role = child.get("presentation:class")
        if role == "title":
            titles.append(" ".join("".join(" ".join(_texts(line)) for line in child.iter("text:p")).split()))
        elif role in _RUNNING:
            if chars := letters_in("".join(child.itertext())):
                draft.note(Code.RUNNING_HEAD, chars=chars)
        elif child.tag == "presentation:notes":
            notes = [one for one in child if one.get("presentation:class") == "notes"]
            lines = ("".join(_texts(line)).strip() for one in notes for line in one.iter("text:p"))
            if text := "\n".join(filter(None, lines)):
                draft.found("notes")
                blocks.append(Paragraph(f"Notes: {text}"))
        else:
            blocks += reader.blocks(_around(child))
    title = " ".join(filter(None, titles))
    if title or blocks:
        yield Heading(1, title or name)
    yield from blocks
