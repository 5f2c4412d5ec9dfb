"""Word documents.

kreuzberg 4 leaves out tabs and all characters that XML writes as references: `AT&amp;T` becomes `ATT`
(xberg-io/xberg#1242). So this module replaces them by stand-ins before the conversion, and puts the
characters back afterwards.
"""

from __future__ import annotations

import io
import re
import zipfile
from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.archives import open_archive
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.signatures import OLE2

_MIME_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_MAIN_PART = "word/document.xml"
_REPLACED_ELEMENTS = {
    b"<w:tab/>": b'<w:t xml:space="preserve"> </w:t>',
    b"<w:noBreakHyphen/>": b"<w:t>-</w:t>",
}
_NAMED = {b"amp": "&", b"lt": "<", b"gt": ">", b"quot": '"', b"apos": "'"}
_REFERENCE = re.compile(rb"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));")
_STAND_INS = {
    char: chr(0x10FF00 + ord(char)) for char in _NAMED.values()
}  # private use characters, which no document has
_FROM_STAND_INS = str.maketrans({stand_in: char for char, stand_in in _STAND_INS.items()})


def read_docx(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the document. Holds it in memory twice."""
    if stream.read(len(OLE2)) == OLE2:
        raise ParseError(
            "is encrypted or an old Word document: remove the password, or save it in the current format"
        )
    with open_archive(stream, required=_MAIN_PART, kind="a Word document") as archive:
        markdown = convert(_with_stand_ins(archive), _MIME_TYPE)
    draft.write(markdown.translate(_FROM_STAND_INS))
    return "markdown"


def _with_stand_ins(archive: zipfile.ZipFile) -> bytes:
    """A copy of the document with all references in its parts replaced, and without images and fonts."""
    copied = io.BytesIO()
    with zipfile.ZipFile(copied, "w") as copy:
        for name in archive.namelist():
            if name.endswith((".xml", ".rels")):
                content = archive.read(name)
                copy.writestr(name, _substituted(content) if name.startswith("word/") else content)
    return copied.getvalue()


def _substituted(part: bytes) -> bytes:
    for element, stand_in in _REPLACED_ELEMENTS.items():
        part = part.replace(element, stand_in)
    return _REFERENCE.sub(_stand_in, part)


def _stand_in(reference: re.Match[bytes]) -> bytes:
    named, decimal, hexadecimal = reference.groups()
    code = ord(_NAMED[named]) if named else int(decimal) if decimal else int(hexadecimal, 16)
    try:
        return _STAND_INS.get(chr(code), chr(code)).encode()
    except ValueError:  # not a character: beyond Unicode, or half of a surrogate pair
        return reference[0]
