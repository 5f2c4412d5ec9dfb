"""Excel workbooks (.xlsx, .xlsm, .xltx): each sheet as a heading and its rows as `header: value` lines."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.office.blocks import Paragraph, markdown
from embedfleet.parsing.office.drawings import read_drawing
from embedfleet.parsing.office.excel_sheet import Sheet, Texts, formats_of, read_sheet, rich_text
from embedfleet.parsing.office.package import Package
from embedfleet.parsing.office.sheet_rows import with_group_names, write_sheet
from embedfleet.parsing.office.xml_part import BrokenPart
from embedfleet.visible_text import letters_in

_THREADED = "[Threaded comment]"  # how the copy of a new comment for old versions of Excel begins
_MOST_PLACES = 3
"""Formulas without results that are named of each sheet."""


def read_excel(package: Package, main_part: str, root: Element, draft: Draft) -> ContentType:
    """Write the sheets. Holds the rows of one sheet in memory."""
    links = package.relationships(main_part)
    texts = _texts(package, main_part, root)
    for sheet in root.iter("x:sheet"):
        name = " ".join(sheet.get("name", "").split())
        link = links.get(sheet.get("r:id", ""))
        part = None if link is None else link.target
        if part is None or not package.has(part):
            draft.note(Code.OFFICE_PART, chars=None, place=f"sheet {name}: it is not in the file")
            continue
        try:
            content = read_sheet(package.content(part), texts)
        except BrokenPart as exc:
            draft.note(Code.OFFICE_PART, chars=None, place=f"sheet {name}: {exc}")
            continue
        if sheet.get("state") in ("hidden", "veryHidden"):
            chars = sum(letters_in(cell) for row in content.rows for cell in row)
            draft.note(Code.HIDDEN, chars=chars, place=f"sheet {name}")
        else:
            _write(package, part, name, content, draft)
    draft.title = package.title
    return "markdown"


def _texts(package: Package, main_part: str, root: Element) -> Texts:
    parts = {kind: package.related(main_part, kind)[:1] for kind in ("sharedStrings", "styles")}
    strings, styles = (
        package.part_if_whole(names[0], place=kind) if names else None for kind, names in parts.items()
    )
    properties = root.find("x:workbookPr")
    from_1904 = properties is not None and properties.get("date1904") in ("1", "true")
    items = [] if strings is None else strings.findall("x:si")
    return Texts([rich_text(item) for item in items], formats_of(styles), from_1904)


def _write(package: Package, part: str, name: str, sheet: Sheet, draft: Draft) -> None:
    rows = with_group_names(sheet.rows, sheet.wide)
    beside = _beside(package, part, draft)
    if beside or any(cell.strip() for row in rows for cell in row):
        draft.found("sheets")
        draft.write(f"# {name}\n\n")
        write_sheet(rows, draft)
    for text in beside:
        draft.write(markdown(Paragraph(text)) + "\n\n")
    hidden = sheet.hidden_rows + (sheet.hidden_columns if sheet.hidden_chars else 0)
    if hidden:
        draft.note(
            Code.HIDDEN,
            count=hidden,
            chars=sheet.hidden_chars,
            place=f"rows and columns of sheet {name}",
        )
    for place in sheet.formulas[:_MOST_PLACES]:
        draft.note(Code.SHEET_FORMULA, chars=None, place=f"{name}!{place}")
    draft.note(Code.SHEET_FORMULA, count=len(sheet.formulas[_MOST_PLACES:]), chars=None)


def _beside(package: Package, part: str, draft: Draft) -> list[str]:
    """Return what is beside the cells of a sheet: comments, text boxes, titles of charts."""
    texts: list[str] = []
    threaded = package.related(part, "threadedComment")
    for name in package.related(part, "comments"):
        texts += _comments(package.part_if_whole(name, place="comments"), draft)
    for name in threaded:
        texts += _threaded_comments(package, package.part_if_whole(name, place="comments"), draft)
    for name in package.related(part, "drawing"):
        texts += _drawing_texts(package, name, draft)
    return texts


def _comments(root: Element | None, draft: Draft) -> list[str]:
    if root is None:
        return []
    authors = [author.text or "" for author in root.iter("x:author")]
    texts: list[str] = []
    for comment in root.iter("x:comment"):
        text = "".join(rich_text(one) for one in comment.iter("x:text")).strip()
        if not text or text.startswith(_THREADED):
            continue
        place = comment.get("authorId", "")
        author = authors[int(place)] if place.isdecimal() and int(place) < len(authors) else ""
        texts.append(_comment(comment.get("ref", ""), author, text.removeprefix(f"{author}:").strip()))
        draft.found("comments")
    return texts


def _threaded_comments(package: Package, root: Element | None, draft: Draft) -> list[str]:
    if root is None:
        return []
    people: dict[str, str] = {}
    for name in (name for name in package.names if name.startswith("xl/persons/")):
        persons = package.part_if_whole(name, place="persons")
        for person in [] if persons is None else persons.iter("tc:person"):
            people[person.get("id", "")] = person.get("displayName", "")
    comments = list(root.iter("tc:threadedComment"))
    draft.found("comments", len(comments))
    return [
        _comment(one.get("ref", ""), people.get(one.get("personId", ""), ""), one.findtext("tc:text", ""))
        for one in comments
    ]


def _comment(cell: str, author: str, text: str) -> str:
    return f"Comment on {cell}{f' by {author}' if author else ''}: {' '.join(text.split())}"


def _drawing_texts(package: Package, name: str, draft: Draft) -> list[str]:
    """Return the texts of a sheet's drawing. A chart has only its titles: its numbers are in the cells."""
    root = package.part_if_whole(name, place="drawing")
    if root is None:
        return []
    drawing = read_drawing(root, draft)
    texts = [*drawing.descriptions]
    for shape in root.iter("xdr:txBody"):
        lines = ("".join(text.text or "" for text in line.iter("a:t")) for line in shape.iter("a:p"))
        texts.append("\n".join(filter(None, lines)))
    links = package.relationships(name)
    for chart in drawing.charts:
        link = links.get(chart)
        part = package.part_if_whole(None if link is None else link.target, place="chart")
        for title in [] if part is None else part.iter("c:title"):
            texts.append("".join(text.text or "" for text in title.iter("a:t")))
    return [text for text in texts if text.strip()]
