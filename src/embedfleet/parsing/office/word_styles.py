"""The styles of a Word document: which paragraphs are headings, listings or hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element

from embedfleet.parsing.office.xml_part import descend, is_on

_BODY_LEVEL = 9
"""The outline level by which Word marks what is no heading."""
# How Word, LibreOffice, WPS and others name the styles of headings, in the languages in which they do so.
# Word itself keeps "heading 1" in every language; only the style's id is translated.
_HEADING_NAME = re.compile(
    r"(?:heading|überschrift|berschrift|titre|titolo|t[ií]tulo|ttulo|kop|rubrik|nag[łl]?[óo]?wek|otsikko|"
    r"overskrift|заголовок|nadpis|címsor|başlık|ba[sş]l[iı]k|标题|標題|見出し|제목)[ _-]*([1-9])",
    re.IGNORECASE,
)
_CODE_NAME = re.compile(
    r"(?:source |program |html )?(?:code|listing|preformatted|preformatted text|verbatim|macro text)"
    r"(?: block| text| listing)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """The list and the level in it to which a paragraph belongs; None where another style decides."""

    list_id: str | None
    level: int | None


@dataclass(frozen=True, slots=True)
class _Style:
    name: str
    based_on: str | None
    outline_level: int | None
    numbered: Numbered | None
    hidden: bool | None
    font: str | None


class Styles:
    """Looks styles up by id, with what they inherit. A style that is not defined is known by its id."""

    def __init__(self, root: Element | None) -> None:
        elements = [] if root is None else root.findall("w:style")
        self._styles = {element.get("w:styleId", ""): _style(element) for element in elements}
        self._default = next((e.get("w:styleId") for e in elements if _is_default_paragraph(e)), None)

    def heading_level(self, style_id: str | None) -> int | None:
        """Return the level, from 1, of the headings of this style; None if they are none."""
        for style in self._inherited(style_id):
            if style.outline_level is not None:
                return None if style.outline_level >= _BODY_LEVEL else style.outline_level + 1
            if (named := _HEADING_NAME.fullmatch(style.name)) is not None:
                return int(named[1])
        return None

    def is_title(self, style_id: str | None) -> bool:
        """Whether the style is that of the document's title."""
        return any(style.name.lower() == "title" for style in self._inherited(style_id))

    def is_contents(self, style_id: str | None) -> bool:
        """Whether the style is that of lines of a table of contents."""
        name = self._name(style_id)
        return name in ("table of figures", "tocheading", "toc heading") or bool(
            re.fullmatch(r"toc ?\d|contents ?\d|contents heading", name)
        )

    def is_code(self, style_id: str | None) -> bool:
        """Whether the style is that of lines of code."""
        return any(_CODE_NAME.fullmatch(style.name) for style in self._inherited(style_id))

    def is_hidden(self, style_id: str | None) -> bool:
        """Whether text of the style is not shown."""
        return next((style.hidden for style in self._inherited(style_id) if style.hidden is not None), False)

    def font(self, style_id: str | None) -> str | None:
        """Return the font of the style's text; None if it says none."""
        return next((style.font for style in self._inherited(style_id) if style.font), None)

    def numbered(self, style_id: str | None) -> list[Numbered]:
        """Return what the style and those that it is based on say about lists, the style's own first."""
        return [style.numbered for style in self._inherited(style_id) if style.numbered is not None]

    def _name(self, style_id: str | None) -> str:
        return next((style.name.lower() for style in self._inherited(style_id)), "")

    def _inherited(self, style_id: str | None) -> Iterator[_Style]:
        """Yield the style and those that it is based on. Text without a style has the default one."""
        seen: set[str] = set()
        style_id = style_id or self._default
        while style_id is not None and style_id not in seen:
            seen.add(style_id)
            style = self._styles.get(style_id) or _undefined(style_id)
            yield style
            style_id = style.based_on


@lru_cache(maxsize=256)
def _undefined(style_id: str) -> _Style:
    return _Style(style_id, None, None, None, None, None)


def _is_default_paragraph(element: Element) -> bool:
    return element.get("w:type") == "paragraph" and element.get("w:default", "0") in ("1", "true", "on")


def _style(element: Element) -> _Style:
    name, parent = element.find("w:name"), element.find("w:basedOn")
    properties = element.find("w:pPr")
    hidden, fonts = descend(element, "w:rPr", "w:vanish"), descend(element, "w:rPr", "w:rFonts")
    return _Style(
        element.get("w:styleId", "") if name is None else name.get("w:val", ""),
        None if parent is None else parent.get("w:val"),
        outline_level(properties),
        numbered(properties),
        None if hidden is None else is_on(hidden),
        None if fonts is None else fonts.get("w:ascii"),
    )


def outline_level(properties: Element | None) -> int | None:
    """Return the outline level, from 0, that properties of a paragraph name; None if they name none."""
    found = None if properties is None else properties.find("w:outlineLvl")
    return None if found is None else whole_number(found.get("w:val"), default=_BODY_LEVEL)


def numbered(properties: Element | None) -> Numbered | None:
    """Return the list that properties of a paragraph name; None if they name none."""
    found = None if properties is None else properties.find("w:numPr")
    if found is None:
        return None
    list_id, level = found.find("w:numId"), found.find("w:ilvl")
    return Numbered(
        None if list_id is None else list_id.get("w:val"),
        None if level is None else whole_number(level.get("w:val"), default=0),
    )


def whole_number(written: str | None, *, default: int) -> int:
    """Return a number of an attribute; the default if there is none or it is no plausible number."""
    text = written or ""
    return int(text) if text.isdecimal() and len(text) < 10 else default
