"""RTF: kreuzberg converts it to Markdown; this module counts what it leaves out."""

from __future__ import annotations

import re
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType

_BEGINNING = b"{\\rtf"
_HIDDEN = re.compile(rb"\\v(?![a-z0-9])")
_OBJECT = re.compile(rb"\\object(?![a-z])")
_IMAGE = re.compile(r"^!\[image\]\([^)\n]*\)\n?", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")


def read_rtf(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the document. Holds it in memory. Raises ParseError if it is none."""
    data = stream.read()
    if not data.lstrip(b"\xef\xbb\xbf \r\n").startswith(_BEGINNING):
        raise ParseError("is not RTF (it does not begin with {\\rtf): open it, and save it again")
    markdown, images = _IMAGE.subn("", convert(data, "application/rtf"))
    draft.note(Code.IMAGE, count=images, chars=None)
    draft.note(Code.HIDDEN, count=len(_HIDDEN.findall(data)), chars=None)
    draft.note(Code.OFFICE_OBJECT, count=len(_OBJECT.findall(data)), chars=None)
    draft.write(_BOLD.sub(r"\1", markdown))
    return "markdown"
