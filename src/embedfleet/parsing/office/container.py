"""Finds out what kind of document an archive is, and has it read. Its content decides, not its suffix."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO
from xml.etree.ElementTree import Element

from embedfleet.errors import ParseError
from embedfleet.parsing.archives import open_archive
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType, Format
from embedfleet.parsing.office.excel import read_excel
from embedfleet.parsing.office.open_document import read_open_document
from embedfleet.parsing.office.package import Package
from embedfleet.parsing.office.powerpoint import read_powerpoint
from embedfleet.parsing.office.word import read_word
from embedfleet.parsing.office.xml_part import BrokenPart
from embedfleet.parsing.signatures import HEAD_BYTES, ZIP
from embedfleet.parsing.unreadable import format_within, refuse

Reader = Callable[[Package, str, Element, Draft], ContentType]

# The readers, by the root element of the main part.
_READERS: dict[str, Reader] = {
    "w:document": read_word,
    "x:workbook": read_excel,
    "p:presentation": read_powerpoint,
    "office:document-content": read_open_document,
}
# What documents are that are not read, by the main part's root element.
_UNREADABLE_ROOTS = {"VisioDocument": Format.VISIO, "FixedDocumentSequence": Format.XPS}
_OLD_OPENOFFICE = "application/vnd.sun.xml."
_HANGUL = "application/hwp+zip"


def read_office(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the text of an Office or OpenDocument file. Raises ParseError, which names the kind of file if
    it is of another kind that cannot be read."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if not head.startswith((ZIP, b"PK\x05\x06")):
        return _read_other(stream, draft)
    with open_archive(stream, kind="an Office document") as archive:
        package = Package(archive, draft)
        mime_type = _mime_type(package)
        if mime_type == "application/epub+zip":
            return _read_as(Format.EPUB, stream, draft)
        if (unreadable := _unreadable(package, mime_type)) is not None:
            raise refuse(unreadable)
        if package.main_part is None:
            raise ParseError("is a ZIP archive and not a document: unpack it, or leave it out")
        return _read_main(package, package.main_part, draft)


def _read_main(package: Package, name: str, draft: Draft) -> ContentType:
    try:
        root = package.part(name)
    except BrokenPart as exc:
        raise ParseError(f"is broken ({name}: {exc}): repair it or leave it out") from exc
    local = root.tag.rsplit(":", maxsplit=1)[-1]
    if local in _UNREADABLE_ROOTS:
        raise refuse(_UNREADABLE_ROOTS[local])
    reader = _READERS.get(root.tag)
    if reader is None:
        raise ParseError(f"is an Office document of an unknown kind ({local}): export it as PDF")
    return reader(package, name, root, draft)


def _read_other(stream: BinaryIO, draft: Draft) -> ContentType:
    """Read a file that is no archive: an old, encrypted or renamed one."""
    found = format_within(stream, Format.DOCX)
    if found in (Format.DOCX, Format.TEXT):
        raise ParseError("is broken or not an Office document: fetch it again or leave it out")
    return _read_as(found, stream, draft)


def _read_as(form: Format, stream: BinaryIO, draft: Draft) -> ContentType:
    from embedfleet.parsing.extract import read  # `extract` imports the readers when they are used

    stream.seek(0)
    return read(stream, form, draft)


def _mime_type(package: Package) -> str:
    try:
        return (
            package.content("mimetype").decode("ascii", "replace").strip() if package.has("mimetype") else ""
        )
    except BrokenPart:
        return ""


def _unreadable(package: Package, mime_type: str) -> Format | None:
    """Return the format of an archive that is known but not read; None if it may be read."""
    if mime_type.startswith(_OLD_OPENOFFICE):
        return Format.OLD_OPENOFFICE
    if mime_type == _HANGUL:
        return Format.HANGUL
    names = package.names
    if not any(name in names for name in ("index/document.iwa", "index.zip", "index.apxl", "index.xml")):
        return None
    if "index.apxl" in names or any(name.startswith("index/slide") for name in names):
        return Format.KEYNOTE
    return Format.NUMBERS if "index/calculationengine.iwa" in names else Format.PAGES
