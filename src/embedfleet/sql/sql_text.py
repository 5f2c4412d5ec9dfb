"""Makes text that every database can store."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text with NUL replaced, which PostgreSQL cannot store. Not for ids: two could become equal."""
    return text.replace("\0", "\ufffd")
