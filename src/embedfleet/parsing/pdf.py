"""PDF: reads the text layer. There is no OCR."""

from __future__ import annotations

from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.pdfium import load_pdfium
from embedfleet.parsing.signatures import HEAD_BYTES, PDF


def read_pdf(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the text layer. Holds the file in memory."""
    head = stream.read(HEAD_BYTES)
    if PDF not in head:
        raise ParseError("is not a PDF file (it does not begin with %PDF): fetch it again or rename it")
    load_pdfium()
    markdown = convert(head + stream.read(), "application/pdf")
    if not markdown.strip():
        raise ParseError("has no text layer, it is probably scanned: run OCR on it first (`ocrmypdf`)")
    draft.write(markdown)
    return "markdown"
