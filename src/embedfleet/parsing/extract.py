"""Extracts the text of one file: chooses the reader, and checks what must hold for every format."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import BinaryIO

from embedfleet.errors import EmptyDocument, ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import UNREADABLE, ContentType, Format
from embedfleet.parsing.signatures import HEAD_BYTES, format_from, text_format_from
from embedfleet.parsing.text import read_text
from embedfleet.parsing.unreadable import format_within

Reader = Callable[[BinaryIO, Draft], ContentType]

# The formats that are read as they are, and how the chunker takes their text.
_AS_IT_IS: dict[Format, ContentType] = {
    Format.TEXT: "text",
}
# The other readers, as module and function. They are imported when used: kreuzberg alone takes 110 ms, and
# text files do not wait for that.
_READERS: dict[Format, tuple[str, str]] = {
    Format.CODE: ("source_code", "read_code"),
    Format.MARKDOWN: ("markdown", "read_markdown"),
    Format.DELIMITED: ("delimited", "read_delimited"),
    Format.JSON: ("speech.transcripts", "read_json_or_transcript"),
    Format.XML: ("xml_text", "read_xml"),
    Format.ORG: ("markup.org", "read_org"),
    Format.RST: ("markup.rst", "read_rst"),
    Format.ASCIIDOC: ("markup.asciidoc", "read_asciidoc"),
    Format.TEX: ("markup.tex", "read_tex"),
    Format.MAIL: ("mail.message", "read_mail"),
    Format.MAILBOX: ("mail.mailbox", "read_mailbox"),
    Format.RTF: ("rtf", "read_rtf"),
    Format.NOTEBOOK: ("notebook", "read_notebook"),
    Format.CAPTIONS: ("speech.captions", "read_captions"),
    Format.HTML: ("html", "read_html"),
    Format.PDF: ("pdf.document", "read_pdf"),
    Format.DOCX: ("office.container", "read_office"),
    Format.XLSX: ("office.container", "read_office"),
    Format.PPTX: ("office.container", "read_office"),
    Format.OPENDOCUMENT: ("office.container", "read_office"),
    Format.EPUB: ("epub", "read_epub"),
}


def extract(stream: BinaryIO, form: Format | None, draft: Draft) -> ContentType:
    """Write the file's text to the draft, and return how it is laid out. If `form` is None, the format is
    detected from the first bytes.

    Raises ParseError if the file cannot be read, and EmptyDocument if it has no text. The caller must then
    drop what was written before.
    """
    head = stream.read(HEAD_BYTES)
    if not head:
        raise EmptyDocument("is empty: there is nothing to embed")
    stream.seek(0)
    if form is Format.TEXT:
        form = text_format_from(head) or form
    content_type = read(stream, form or format_from(head), draft)
    draft.finish()
    if draft.blank:
        lost = draft.account.account.lost
        if lost:
            raise ParseError(f"holds no text that can be read ({lost[0].line})")
        raise EmptyDocument("holds no text: there is nothing to embed")
    return content_type


def read(stream: BinaryIO, form: Format, draft: Draft) -> ContentType:
    """Write the text of a file of this format. Readers of containers read the files in them with it."""
    if form in UNREADABLE:
        form = format_within(stream, form)
        stream.seek(0)
    if form in _AS_IT_IS:
        read_text(stream, draft)
        return _AS_IT_IS[form]
    return _reader(form)(stream, draft)


@cache
def _reader(form: Format) -> Reader:
    module, function = _READERS[form]
    reader: Reader = getattr(import_module(f"embedfleet.parsing.{module}"), function)
    return reader
