"""Reads plain text, Markdown and source code without changing them."""

from __future__ import annotations

from typing import BinaryIO

from embedfleet.parsing.decoding import decode, find_encoding
from embedfleet.parsing.extraction import Emit, Summary
from embedfleet.parsing.formats import ContentType


def read_text(stream: BinaryIO, emit: Emit, *, content_type: ContentType) -> Summary:
    """Emit the file unchanged, except for the ends of lines. Holds one block in memory."""
    warnings = decode(stream, find_encoding(stream), emit)
    return Summary(content_type, warnings=warnings)


def whole_text(stream: BinaryIO, *, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The whole text of the file, and the warnings."""
    pieces: list[str] = []
    warnings = decode(stream, find_encoding(stream, declared=declared), pieces.append)
    return "".join(pieces), warnings
