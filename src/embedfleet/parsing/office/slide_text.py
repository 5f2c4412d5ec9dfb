"""Paragraphs and tables of DrawingML, in which slides are written."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from embedfleet.parsing.office.alternatives import ALTERNATIVES, chosen
from embedfleet.parsing.office.blocks import Block, Item, Paragraph, Table, visible
from embedfleet.parsing.office.equations import latex
from embedfleet.parsing.office.numerals import letter, roman
from embedfleet.parsing.office.symbols import has_private_characters, shown
from embedfleet.parsing.office.word_styles import whole_number

_MOST_LEVEL = 8


def paragraphs(body: Element, *, listed: bool) -> Iterator[Block]:
    """Yield the paragraphs of a text body. `listed`: they have bullets unless they say otherwise."""
    counts: dict[int, int] = {}
    lines = body.findall("a:p")
    is_list = listed and sum(bool(text_of(line).strip()) for line in lines) > 1
    for line in lines:
        text = text_of(line)
        if not text.strip():
            continue
        properties = line.find("a:pPr")
        level = 0 if properties is None else min(whole_number(properties.get("lvl"), default=0), _MOST_LEVEL)
        for deeper in [one for one in counts if one > level]:
            del counts[deeper]
        label = _label(properties, level, counts, listed=is_list or (listed and level > 0))
        yield Item(level, label, text) if label else Paragraph(text)


def _label(properties: Element | None, level: int, counts: dict[int, int], *, listed: bool) -> str:
    """Return what stands before a paragraph: "-", "2.", "b)"; "" if nothing does."""
    numbered = None if properties is None else properties.find("a:buAutoNum")
    if numbered is not None:
        start = whole_number(numbered.get("startAt"), default=1)
        counts[level] = counts.get(level, start - 1) + 1
        return _numbered(counts[level], numbered.get("type", "arabicPeriod"))
    counts.pop(level, None)
    if properties is not None and properties.find("a:buNone") is not None:
        return ""
    bullet = properties is not None and (
        properties.find("a:buChar") is not None or properties.find("a:buBlip") is not None
    )
    return "-" if bullet or listed else ""


def _numbered(number: int, kind: str) -> str:
    written = str(number)
    if kind.startswith("alpha"):
        written = letter(number)
    elif kind.startswith("roman"):
        written = roman(number)
    if kind.startswith(("alphaUc", "romanUc")):
        written = written.upper()
    end = ")" if kind.endswith(("ParenR", "ParenBoth")) else "." if kind.endswith("Period") else ""
    return f"({written})" if kind.endswith("ParenBoth") else written + end


def text_of(paragraph: Element) -> str:
    """Return the text of a paragraph, with formulas as LaTeX and struck text as `~~old~~`."""
    return visible("".join(_pieces(paragraph)))


def _pieces(node: Element) -> Iterator[str]:
    for child in node:
        if child.tag in ("a:r", "a:fld"):
            yield _run(child)
        elif child.tag == "a:br":
            yield "\n"
        elif child.tag == "m:oMath":
            yield f"${latex(child).strip()}$"
        elif child.tag == ALTERNATIVES:
            if (choice := chosen(child)) is not None:
                yield from _pieces(choice)
        elif child.tag not in ("a:pPr", "a:endParaRPr"):
            yield from _pieces(child)


def _run(run: Element) -> str:
    text = (run.findtext("a:t") or "").replace("\v", "\n")
    properties = run.find("a:rPr")
    if properties is None or not text.strip():
        return text
    if has_private_characters(text):
        font = properties.find("a:sym")
        name = None if font is None else font.get("typeface")
        text = "".join(shown(ord(char), name or "Wingdings") or char for char in text)
    if properties.get("strike", "noStrike") != "noStrike":
        return text.replace(text.strip(), f"~~{text.strip()}~~")
    raised = whole_number(properties.get("baseline"), default=0)
    return f"^{text}" if raised > 0 and text.isdecimal() else text


def table_of(table: Element) -> Table:
    """Return a table of a slide. A cell that goes over several rows has its text in each of them."""
    rows: list[list[str]] = []
    for row in table.findall("a:tr"):
        cells: list[str] = []
        for cell in row.findall("a:tc"):
            text = " ".join(" ".join(text_of(line) for line in cell.iter("a:p")).split())
            if cell.get("vMerge") in ("1", "true") and rows and len(cells) < len(rows[-1]):
                text = rows[-1][len(cells)]
            cells.append("" if cell.get("hMerge") in ("1", "true") else text)
        rows.append(cells)
    return Table(rows)
