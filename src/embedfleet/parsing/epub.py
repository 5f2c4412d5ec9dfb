"""EPUB books: reads their chapters as HTML pages, in reading order."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree

from embedfleet.errors import ParseError
from embedfleet.parsing.archives import open_archive
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.html import read_html

_CONTAINER = "META-INF/container.xml"
_PAGE_TYPES = frozenset({"application/xhtml+xml", "text/html"})


def read_epub(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write one chapter at a time, without the table of contents. Holds the largest chapter in memory."""
    with open_archive(stream, required=_CONTAINER, kind="an EPUB book") as archive:
        try:
            package_name = _package_name(archive)
            package = ElementTree.fromstring(archive.read(package_name))
            for name in _chapters(package, posixpath.dirname(package_name)):
                read_html(io.BytesIO(archive.read(name)), draft)
                draft.write("\n")
        except (ElementTree.ParseError, KeyError) as exc:
            raise ParseError(f"is broken ({exc}): repair it or leave it out") from exc
    return "markdown"


def _package_name(archive: zipfile.ZipFile) -> str:
    rootfile = ElementTree.fromstring(archive.read(_CONTAINER)).find(".//{*}rootfile")
    if rootfile is None:
        raise ParseError(f"is broken ({_CONTAINER} names no book): repair it or leave it out")
    return rootfile.attrib["full-path"]


def _chapters(package: ElementTree.Element, folder: str) -> Iterator[str]:
    """The archive members with the chapters, in the order of the spine."""
    items = {item.attrib["id"]: item.attrib for item in package.findall(".//{*}manifest/{*}item")}
    for reference in package.findall(".//{*}spine/{*}itemref"):
        item = items[reference.attrib["idref"]]
        if item.get("media-type") in _PAGE_TYPES and "nav" not in item.get("properties", "").split():
            yield posixpath.normpath(posixpath.join(folder, unquote(item["href"])))
