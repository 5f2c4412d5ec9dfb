"""The parameter and the result that the readers of all formats share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedfleet.parsing.formats import ContentType

Emit = Callable[[str], None]
"""Takes the next piece of the text. A reader emits each piece at once, so that a text file of hundreds of
megabytes is never all in the child's memory."""

BLOCK_BYTES = 1 << 20
"""How many bytes of a file are read at once."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader returns about a document after it has emitted all text."""

    content_type: ContentType
    warnings: tuple[str, ...] = ()
