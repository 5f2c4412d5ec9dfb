"""Reads bytes with one reader, or as one format, in this process and without a sandbox."""

from __future__ import annotations

import io

from embedfleet.chunking.atoms import find_atoms
from embedfleet.parsing import extract
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.extract import Reader
from embedfleet.parsing.formats import Format, ParsedDocument
from embedfleet.queue_schemas import ChunkMethod


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


def heading_at(document: ParsedDocument, snippet: str) -> tuple[str, ...]:
    """Return the heading path of the text at which the snippet stands."""
    at = document.text.index(snippet)
    path: tuple[str, ...] = ()
    runs = find_atoms([document.text], content_type=document.content_type, method=ChunkMethod.RECURSIVE)
    for run in runs:
        for offset, above in run.above:
            path = above.headings if run.offset + offset <= at else path
    return path
