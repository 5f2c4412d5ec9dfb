"""PDF, DOCX and EPUB: checked for what the converter would not say clearly, then converted."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.extraction import Emit, Summary
from embedfleet.parsing.pdfium import load_pdfium
from embedfleet.parsing.signatures import HEAD_BYTES, OLE2, PDF

_MAX_UNPACKED_BYTES = 1 << 30
_MAX_PACKING = 200  # text packs up to about 50:1, a bomb 1000:1
_SMALL_BYTES = 1 << 26  # below, packing does no harm


def read_pdf(stream: BinaryIO, emit: Emit) -> Summary:
    """Emit the text layer. Holds the file in memory."""
    head = stream.read(HEAD_BYTES)
    if PDF not in head:
        raise ParseError("is not a PDF file (it does not begin with %PDF): fetch it again or rename it")
    load_pdfium()
    document = convert(head + stream.read(), "application/pdf")
    if not document.markdown.strip():
        raise ParseError("has no text layer, it is probably scanned: run OCR on it first (`ocrmypdf`)")
    emit(document.markdown)
    return Summary("markdown", document.title)


def read_docx(stream: BinaryIO, emit: Emit) -> Summary:
    """Emit a Word document. Holds the file in memory."""
    if stream.read(len(OLE2)) == OLE2:
        raise ParseError(
            "is encrypted or an old Word document: remove the password, or save it in the current format"
        )
    _check_archive(stream, "word/document.xml", "a Word document")
    mime_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    return _emit_converted(stream, mime_type, emit)


def read_epub(stream: BinaryIO, emit: Emit) -> Summary:
    """Emit a book. Holds the file in memory."""
    _check_archive(stream, "META-INF/container.xml", "an EPUB book")
    return _emit_converted(stream, "application/epub+zip", emit)


def _emit_converted(stream: BinaryIO, mime_type: str, emit: Emit) -> Summary:
    stream.seek(0)
    document = convert(stream.read(), mime_type)
    emit(document.markdown)
    return Summary("markdown", document.title)


def _check_archive(stream: BinaryIO, member: str, kind: str) -> None:
    """Refuse what is no such archive, encrypted, or unpacks to far more than a document would."""
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as exc:
        raise ParseError(f"is broken or not {kind} ({exc}): fetch it again or leave it out") from exc
    if member not in {entry.filename for entry in entries}:
        raise ParseError(f"is not {kind} ({member} is not in it): rename it or leave it out")
    if any(entry.flag_bits & 1 for entry in entries):
        raise ParseError("is encrypted: remove the password and try again")
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > _MAX_UNPACKED_BYTES or unpacked > max(_SMALL_BYTES, packed * _MAX_PACKING):
        raise ParseError(f"unpacks from {packed} to {unpacked} bytes, like an archive bomb: leave it out")
