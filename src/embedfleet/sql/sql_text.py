"""Makes text that every database can store."""

from __future__ import annotations


def storable(text: str) -> str:
    """Return the text with each NUL replaced, as PostgreSQL cannot store it.

    Do not use this for ids: two different ids could become equal.
    """
    return text.replace("\0", "\ufffd")
