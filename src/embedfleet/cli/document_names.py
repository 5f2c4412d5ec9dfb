"""How documents are called in tables, where a whole path has no room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Document = tuple[str, str | None]
"""The id of a document, and where it came from, if that was said."""


def short_names(documents: Iterable[Document]) -> Mapping[Document, str]:
    """Return a name for each document: as much of the end of its source as tells it from the others.

    A document without a source is called by its id.
    """
    parts = {one: [one[0]] if one[1] is None else one[1].rstrip("/").split("/") for one in documents}
    found: dict[Document, str] = {}
    length = 1
    while len(found) < len(parts):
        tails = {one: "/".join(pieces[-length:]) for one, pieces in parts.items()}
        seen = Counter(tails.values())
        for one, tail in tails.items():
            if one not in found and (seen[tail] == 1 or length >= len(parts[one])):
                found[one] = tail
        length += 1
    return found
