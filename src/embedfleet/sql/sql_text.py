"""Text that any of the databases takes."""

from __future__ import annotations


def storable(text: str) -> str:
    """PostgreSQL's texts have no NUL. For what people read, not for ids: two of them could become one."""
    return text.replace("\0", "\ufffd")
