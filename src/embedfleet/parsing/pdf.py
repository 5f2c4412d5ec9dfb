"""PDF: reads the text layer. There is no OCR."""

from __future__ import annotations

from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.extraction import Emit, Summary
from embedfleet.parsing.pdfium import load_pdfium
from embedfleet.parsing.signatures import HEAD_BYTES, PDF


def read_pdf(stream: BinaryIO, emit: Emit) -> Summary:
    """Emit the text layer. Holds the file in memory."""
    head = stream.read(HEAD_BYTES)
    if PDF not in head:
        raise ParseError("is not a PDF file (it does not begin with %PDF): fetch it again or rename it")
    load_pdfium()
    markdown = convert(head + stream.read(), "application/pdf")
    if not markdown.strip():
        raise ParseError("has no text layer, it is probably scanned: run OCR on it first (`ocrmypdf`)")
    emit(markdown)
    return Summary("markdown")
