"""XML: its text, by what its elements mean; see `embedfleet.parsing.xml`."""

from __future__ import annotations

import re
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.extract import read
from embedfleet.parsing.formats import ContentType, Format
from embedfleet.parsing.text import whole_text
from embedfleet.parsing.xml.layout import Layout
from embedfleet.parsing.xml.vocabulary import Style
from embedfleet.visible_text import letters_in

_PRESCAN_BYTES = 1024
_XHTML = re.compile(rb"<html[\s>]", re.IGNORECASE)


def read_xml(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the text of the document. Holds its text in memory."""
    head = stream.read(_PRESCAN_BYTES)
    if _XHTML.search(head):
        stream.seek(0)
        return read(stream, Format.HTML, draft)
    layout = Layout(draft.write)
    layout.read(whole_text(stream, draft))
    draft.write("\n")
    _account(layout, draft)
    return "text" if layout.style is Style.DATA else "markdown"


def _account(layout: Layout, draft: Draft) -> None:
    for code, texts in ((Code.MARKUP_COMMENT, layout.comments), (Code.LINK_TARGET, layout.addresses)):
        draft.note(code, count=len(texts), chars=sum(map(letters_in, texts)))
    for name in layout.missing:
        draft.note(Code.OTHER_FILE, chars=None, place=name)
    draft.note(Code.BROKEN_MARKUP, count=layout.broken)
