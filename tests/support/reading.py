"""Reads bytes with one reader, or as one format, in this process and without a sandbox."""

from __future__ import annotations

import io

from embedfleet.parsing import extract
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.extract import Reader
from embedfleet.parsing.formats import Format, ParsedDocument


def read_with(reader: Reader, data: bytes) -> ParsedDocument:
    """Return the document that the reader makes of these bytes."""
    pieces: list[str] = []
    draft = Draft(pieces.append)
    content_type = reader(io.BytesIO(data), draft)
    draft.finish()
    return ParsedDocument(
        "".join(pieces), content_type, draft.account.account, title=draft.title, places=draft.places
    )


def read_as(form: Format | None, data: bytes) -> ParsedDocument:
    """Return the document that files of this format give; None: the format is detected."""
    return read_with(lambda stream, draft: extract.extract(stream, form, draft), data)
