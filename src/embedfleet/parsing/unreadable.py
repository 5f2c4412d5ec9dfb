"""Formats that are known but not read: each is refused by its name, with what to do about it."""

from __future__ import annotations

from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.draft import BLOCK_BYTES
from embedfleet.parsing.formats import UNREADABLE, Format
from embedfleet.parsing.signatures import HEAD_BYTES, OLE2, format_from, known_binary

_CURRENT = "save it in the current format"
_REFUSALS: dict[Format, str] = {
    Format.OLD_OFFICE: f"is an old Microsoft Office document: {_CURRENT} of its program",
    Format.OLD_WORD: f"is an old Word document: {_CURRENT} (.docx)",
    Format.XLS: f"is an old Excel workbook: {_CURRENT} (.xlsx)",
    Format.OLD_POWERPOINT: f"is an old PowerPoint presentation: {_CURRENT} (.pptx)",
    Format.WORKS: "is a Microsoft Works document: save it as a Word document (.docx)",
    Format.PUBLISHER: "is a Publisher document: export it as PDF",
    Format.VISIO: "is a Visio drawing: export it as PDF",
    Format.PROJECT: "is a Microsoft Project plan: export it as an Excel workbook (.xlsx) or PDF",
    Format.ONENOTE: "is a OneNote section: export it as a Word document (.docx) or PDF",
    Format.ACCESS: "is an Access database: export its tables as Excel workbooks (.xlsx) or CSV",
    Format.WORDPERFECT: "is a WordPerfect document: save it as a Word document (.docx) or PDF",
    Format.PAGES: "is a Pages document: export it as a Word document (.docx) or PDF",
    Format.NUMBERS: "is a Numbers spreadsheet: export it as an Excel workbook (.xlsx) or CSV",
    Format.KEYNOTE: "is a Keynote presentation: export it as a PowerPoint presentation (.pptx) or PDF",
    Format.XPS: "is an XPS document: print it as PDF",
    Format.OLD_OPENOFFICE: "is an old OpenOffice document: save it in the current format (.odt, .ods)",
    Format.OUTLOOK: "is an Outlook message: save it as .eml, or open it and save it as HTML",
    Format.HANGUL: "is a Hangul document: save it as a Word document (.docx) or PDF",
}
# The streams that tell what an OLE2 file is, as their names stand in it. Order: an encrypted file has no
# other stream, a message may have documents in it, and an old Word document a workbook.
_STREAMS: tuple[tuple[str, Format], ...] = (
    ("__properties_version1.0", Format.OUTLOOK),
    ("WordDocument", Format.OLD_WORD),
    ("PowerPoint Document", Format.OLD_POWERPOINT),
    ("VisioDocument", Format.VISIO),
    ("HwpSummaryInformation", Format.HANGUL),
    ("MatOST", Format.WORKS),
    ("Quill", Format.PUBLISHER),
    ("Workbook", Format.XLS),
)
_ENCRYPTED = "EncryptedPackage"
_ENCRYPTED_REFUSAL = "is encrypted: remove the password and try again"


def refuse(form: Format) -> ParseError:
    """Return the error that refuses a format by its name."""
    return ParseError(_REFUSALS[form])


def format_within(stream: BinaryIO, form: Format) -> Format:
    """Return the format to read a file in whose name stands for a format that is not read, or for another
    format than its bytes: a file called .doc may be a current document, RTF, a page or plain text.

    Raises ParseError with the name of the format if it cannot be read.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if head.startswith(OLE2):
        return _within_ole2(stream, form)
    found = format_from(head)
    if found in UNREADABLE:
        raise refuse(found)
    if form in UNREADABLE and found is Format.TEXT and (known_binary(head) or b"\0" in head):
        raise refuse(form)
    return found


def _within_ole2(stream: BinaryIO, form: Format) -> Format:
    names = {name for name, _ in _STREAMS} | {_ENCRYPTED}
    found = _streams_named(stream, names)
    if _ENCRYPTED in found:
        raise ParseError(_ENCRYPTED_REFUSAL)
    by_stream = next((kind for name, kind in _STREAMS if name in found), None)
    if by_stream is None and form not in UNREADABLE:
        raise ParseError(f"is an old Microsoft Office document, or encrypted: {_CURRENT}, without a password")
    kind = by_stream or form
    if kind in UNREADABLE:
        raise refuse(kind)
    return kind


def _streams_named(stream: BinaryIO, names: set[str]) -> set[str]:
    """Return which of the names stand in the file, written as OLE2 does: in UTF-16."""
    stream.seek(0)
    found: set[str] = set()
    before = b""
    while block := stream.read(BLOCK_BYTES):
        # With the end of the block before, as a name may stand across both.
        searched = before + block
        found |= {name for name in names if name.encode("utf-16-le") in searched}
        before = block[-64:]
    return found
