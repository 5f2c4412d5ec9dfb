"""Reads one XML part of an office document into a tree with short names.

The name of an element is `w:p`, whatever prefix the file uses, and whether it is written in the transitional
or the strict form of Office Open XML. So readers compare plain strings.
"""

from __future__ import annotations

from functools import lru_cache
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

_MAX_DEPTH = 200
"""Deeper parts are refused. Readers recurse, and Python ends a recursion of 1,000 calls. A table in a table
in a table is about 20 deep."""

_OOXML = "http://schemas.openxmlformats.org/"
_STRICT = "http://purl.oclc.org/ooxml/"
_MICROSOFT = "http://schemas.microsoft.com/office/"
_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_PREFIXES = {
    f"{_OOXML}wordprocessingml/2006/main": "w",
    f"{_STRICT}wordprocessingml/main": "w",
    f"{_OOXML}spreadsheetml/2006/main": "x",
    f"{_STRICT}spreadsheetml/main": "x",
    f"{_OOXML}presentationml/2006/main": "p",
    f"{_STRICT}presentationml/main": "p",
    f"{_OOXML}drawingml/2006/main": "a",
    f"{_STRICT}drawingml/main": "a",
    f"{_OOXML}drawingml/2006/chart": "c",
    f"{_STRICT}drawingml/chart": "c",
    f"{_MICROSOFT}drawing/2014/chartex": "cx",
    f"{_OOXML}drawingml/2006/diagram": "dgm",
    f"{_STRICT}drawingml/diagram": "dgm",
    f"{_OOXML}drawingml/2006/picture": "pic",
    f"{_STRICT}drawingml/picture": "pic",
    f"{_OOXML}drawingml/2006/wordprocessingDrawing": "wp",
    f"{_STRICT}drawingml/wordprocessingDrawing": "wp",
    f"{_OOXML}drawingml/2006/spreadsheetDrawing": "xdr",
    f"{_STRICT}drawingml/spreadsheetDrawing": "xdr",
    f"{_OOXML}officeDocument/2006/math": "m",
    f"{_STRICT}officeDocument/math": "m",
    f"{_OOXML}officeDocument/2006/relationships": "r",
    f"{_STRICT}officeDocument/relationships": "r",
    f"{_OOXML}markup-compatibility/2006": "mc",
    f"{_OOXML}package/2006/relationships": "rel",
    f"{_OOXML}package/2006/content-types": "ct",
    f"{_MICROSOFT}word/2010/wordprocessingShape": "wps",
    f"{_MICROSOFT}word/2010/wordml": "w14",
    f"{_MICROSOFT}powerpoint/2018/8/main": "p188",
    f"{_MICROSOFT}spreadsheetml/2018/threadedcomments": "tc",
    "urn:schemas-microsoft-com:vml": "v",
    "urn:schemas-microsoft-com:office:office": "o",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://www.w3.org/1999/xlink": "xlink",
    "http://www.w3.org/1998/Math/MathML": "mml",
    "http://www.w3.org/XML/1998/namespace": "xml",
    **{f"{_ODF}{name}:1.0": name for name in ("office", "text", "table", "style", "presentation", "meta")},
    **{f"{_ODF}{name}:1.0": name for name in ("form", "chart", "script", "manifest")},
    f"{_ODF}drawing:1.0": "draw",
    f"{_ODF}svg-compatible:1.0": "svg",
    f"{_ODF}xsl-fo-compatible:1.0": "fo",
    f"{_ODF}datastyle:1.0": "number",
}


class BrokenPart(Exception):
    """A part is no well-formed XML, or nests too deep, or has a document type. The message says which."""


class _RootReached(Exception):
    """The element that a document type would have to precede begins."""


def parse_part(data: bytes) -> Element:
    """Return the root element of a part, with short names for elements and attributes.

    Raises BrokenPart. A document type is refused, as no office program writes one: only it can define
    entities, which may grow without bounds or name other files.
    """
    refuse_document_type(data)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as exc:
        raise BrokenPart(str(exc)) from exc
    _shorten_names(root)
    return root


def refuse_document_type(data: bytes) -> None:
    """Raise BrokenPart if a part has a document type."""
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = _end_at_root
    try:
        parser.Parse(data, True)
    except (_RootReached, expat.ExpatError, ValueError, LookupError):
        return  # what is not well-formed, the real reading finds


def descend(element: Element, *tags: str) -> Element | None:
    """Return the first child of a name, its first child of the next name, and so on; None if one is missing.

    `Element.find` takes one such name, but no path of them: it would look for the prefixes.
    """
    found: Element | None = element
    for tag in tags:
        if found is None:
            break
        found = found.find(tag)
    return found


def is_on(element: Element | None, *, default: bool = False) -> bool:
    """Whether a switch of Office Open XML such as `w:vanish` is on: it may say so by its presence alone."""
    if element is None:
        return default
    return element.get("w:val", element.get("m:val", "1")) not in ("0", "false", "off", "none")


def _refuse(*_args: object) -> None:
    raise BrokenPart("it has a document type, which no office program writes")


def _end_at_root(*_args: object) -> None:
    raise _RootReached


def _shorten_names(root: Element) -> None:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise BrokenPart(f"its elements are nested deeper than {_MAX_DEPTH}")
        below: list[Element] = []
        for element in level:
            if not isinstance(element.tag, str):
                continue
            element.tag = _short(element.tag)
            attributes = element.attrib
            if any(name[0] == "{" for name in attributes):
                renamed = {_short(name): value for name, value in attributes.items()}
                attributes.clear()
                attributes.update(renamed)
            below.extend(element)
        level = below


@lru_cache(maxsize=4096)
def _short(name: str) -> str:
    if name[:1] != "{":
        return name
    namespace, _, local = name[1:].partition("}")
    return f"{_PREFIXES.get(namespace, '?')}:{local}"
