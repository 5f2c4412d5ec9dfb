"""What every reader of a format takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedfleet.parsing.formats import ContentType

Emit = Callable[[str], None]
"""Takes the next piece of the text. Pieces are handed on as they are made, so that a file of
hundreds of megabytes never stands in the child's memory."""

BLOCK_BYTES = 1 << 20
"""How much of a file is read at once."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a document once all its text was emitted."""

    content_type: ContentType
    title: str | None = None
    warnings: tuple[str, ...] = ()
