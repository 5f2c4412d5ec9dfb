"""Extracts the text of one file: chooses the reader, and checks what must hold for every format."""

from __future__ import annotations

from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.delimited import read_delimited
from embedfleet.parsing.extraction import Emit, Summary
from embedfleet.parsing.formats import Format
from embedfleet.parsing.json_layout import read_json
from embedfleet.parsing.signatures import HEAD_BYTES, format_from
from embedfleet.parsing.text import read_text


def extract(stream: BinaryIO, form: Format | None, emit: Emit) -> Summary:
    """Emit the file's text piece by piece. If `form` is None, the format is detected from the first bytes.

    Raises ParseError if the file cannot be read or has no text; the caller must drop what was emitted before.
    """
    head = stream.read(HEAD_BYTES)
    if not head:
        raise ParseError("is empty: there is nothing to embed")
    stream.seek(0)
    blank = True

    def emit_and_watch(piece: str) -> None:
        nonlocal blank
        blank = blank and (not piece or piece.isspace())
        emit(piece)

    summary = _read(stream, form or format_from(head), emit_and_watch)
    if blank:
        raise ParseError("holds no text: there is nothing to embed")
    return summary


def _read(stream: BinaryIO, form: Format, emit: Emit) -> Summary:
    match form:
        case Format.TEXT:
            return read_text(stream, emit, content_type="text")
        case Format.MARKDOWN:
            return read_text(stream, emit, content_type="markdown")
        case Format.CODE:
            return read_text(stream, emit, content_type="code")
        case Format.DELIMITED:
            return read_delimited(stream, emit)
        case Format.JSON:
            return read_json(stream, emit)
        case Format.HTML | Format.PDF | Format.DOCX | Format.EPUB:
            return _read_converted(stream, form, emit)


def _read_converted(stream: BinaryIO, form: Format, emit: Emit) -> Summary:
    """Read a format that needs kreuzberg, which takes 110 ms to import; text files do not wait for that."""
    from embedfleet.parsing import docx, epub, html, pdf

    readers = {
        Format.HTML: html.read_html,
        Format.PDF: pdf.read_pdf,
        Format.DOCX: docx.read_docx,
        Format.EPUB: epub.read_epub,
    }
    return readers[form](stream, emit)
