"""Drawings in office documents: descriptions of pictures, text boxes, charts and diagrams."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.office.alternatives import ALTERNATIVES, chosen
from embedfleet.parsing.office.blocks import Block, Item, Paragraph, Table, visible
from embedfleet.parsing.office.package import Package, Relationship

_PROPERTIES = frozenset({"wp:docPr", "pic:cNvPr", "p:cNvPr", "xdr:cNvPr", "a:cNvPr", "wps:cNvPr"})
_MOST_POINTS = 2000
"""A chart with more points is a plot of measurements: only the first ones become rows."""


@dataclass
class Drawing:
    """What a drawing holds: text boxes of Word, and ids of the relationships to charts and diagrams."""

    boxes: list[Element] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    diagrams: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    pictures: int = 0
    described: bool = False
    objects: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        return visible(" ".join(dict.fromkeys(self.descriptions)))


def read_drawing(node: Element, draft: Draft) -> Drawing:
    """Return what a drawing holds. What cannot be text is noted: pictures without words, other objects."""
    drawing = Drawing()
    _walk(node, drawing)
    if drawing.objects:
        for program in drawing.objects:
            draft.note(Code.OFFICE_OBJECT, chars=None, place=program)
    elif drawing.pictures and not drawing.described:
        draft.note(Code.IMAGE, count=drawing.pictures)
    return drawing


def _walk(node: Element, drawing: Drawing) -> None:
    for child in node:
        tag = child.tag
        if tag == ALTERNATIVES:
            if (choice := chosen(child)) is not None:
                _walk(choice, drawing)
        elif tag == "w:txbxContent":
            drawing.boxes.append(child)
        elif tag in _PROPERTIES:
            _describe(child, child.get("descr") or child.get("title"), drawing)
        elif tag in ("c:chart", "cx:chart"):
            drawing.charts.append(child.get("r:id", ""))
        elif tag == "dgm:relIds":
            drawing.diagrams.append(child.get("r:dm", ""))
        elif tag in ("o:OLEObject", "p:oleObj"):
            drawing.objects.append(child.get("ProgID") or child.get("progId") or "unknown program")
        elif tag == "v:textpath":
            drawing.descriptions.append(child.get("string", ""))
        else:
            if tag in ("pic:pic", "p:pic", "xdr:pic", "v:imagedata"):
                drawing.pictures += 1
            if tag == "v:shape":
                _describe(child, child.get("alt"), drawing)
            _walk(child, drawing)


def _describe(properties: Element, description: str | None, drawing: Drawing) -> None:
    words = " ".join((description or "").split())
    if words:
        drawing.descriptions.append(words)
    is_decoration = any(one.get("val") == "1" for one in properties.iter("?:decorative"))
    drawing.described = drawing.described or bool(words) or is_decoration


def chart_blocks(package: Package, link: Relationship | None) -> list[Block]:
    """Return a chart's titles, and its series as a table. A chart that cannot be read is noted."""
    root = package.part_if_whole(None if link is None else link.target, place="chart")
    if root is None:
        return []
    titles = ["".join(text.text or "" for text in title.iter("a:t")) for title in root.iter("c:title")]
    titles += ["".join(text.text or "" for text in title.iter("a:t")) for title in root.iter("cx:title")]
    blocks: list[Block] = [Paragraph(title) for title in dict.fromkeys(titles) if title.strip()]
    series = [
        (_name(one), _points(one, "c:cat", "c:xVal"), _points(one, "c:val", "c:yVal"))
        for one in _series(root)
    ]
    if series:
        labels = next((points for _, points, _ in series if points), {})
        places = sorted(set(labels).union(*(values for _, _, values in series)))[:_MOST_POINTS]
        rows = [
            [labels.get(place, ""), *(values.get(place, "") for _, _, values in series)] for place in places
        ]
        blocks.append(Table([["", *(name for name, _, _ in series)], *rows]))
    points = [point.text or "" for point in root.iter("cx:pt")]
    if points:
        blocks.append(Paragraph(", ".join(points[:_MOST_POINTS])))
    return blocks


def _series(root: Element) -> list[Element]:
    return list(root.iter("c:ser"))


def _name(series: Element) -> str:
    name = series.find("c:tx")
    return "" if name is None else " ".join(value.text or "" for value in name.iter("c:v"))


def _points(series: Element, *tags: str) -> dict[int, str]:
    """Return the stored points of a series by their places."""
    for tag in tags:
        holder = series.find(tag)
        if holder is not None:
            levels = list(holder.iter("c:lvl")) or [holder]
            points = ((point.get("idx", ""), point.findtext("c:v", "")) for point in levels[0].iter("c:pt"))
            return {int(place): " ".join(value.split()) for place, value in points if place.isdecimal()}
    return {}


def diagram_blocks(package: Package, link: Relationship | None) -> list[Block]:
    """Return the texts of a SmartArt diagram as items. A diagram that cannot be read is noted."""
    root = package.part_if_whole(None if link is None else link.target, place="diagram")
    if root is None:
        return []
    blocks: list[Block] = []
    for point in root.iter("dgm:pt"):
        lines = ("".join(text.text or "" for text in line.iter("a:t")) for line in point.iter("a:p"))
        text = " ".join(filter(None, lines))
        if text.strip():
            blocks.append(Item(0, "-", visible(text)))
    return blocks
