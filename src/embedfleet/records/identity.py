"""Ids that are derived from content. The same input always has the same id.

Every id is a SHA-256 over its parts, each with its length before it. So different parts never give the same
bytes.
"""

from __future__ import annotations

import hashlib

from embedfleet.places import NOWHERE, Places
from embedfleet.queue_schemas import CHUNK_ID_BYTES


def document_id(tenant: str, media_id: str) -> str:
    """Return the id of a tenant's document: 32 hex digits, which do not depend on the content."""
    return _digest(tenant, media_id).hex()[:32]


class ContentHash:
    """The SHA-256 of a text that comes in pieces, in 64 hex digits. The cuts do not change the result.

    A text without title and places has the hash of its UTF-8.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, text: str) -> None:
        self._digest.update(text.encode())

    def update_source(self, title: str | None, places: Places) -> None:
        """Take in what belongs to the content beside the text, which must be complete before."""
        if title is not None or places != NOWHERE:
            # No text has a NUL, so the parts cannot be taken for a longer text.
            self._digest.update(b"\0" + (title or "").encode() + b"\0" + places.packed())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class ChunkIds:
    """Makes the ids of a document's chunks, which must come in order.

    An id depends on the document, the space, what is embedded (the context and the text), and the number of
    equal ones before it. So a chunk keeps its id and its vector when other parts of the document change, gets
    new ones when its title or heading changes, and two equal paragraphs have different ids.
    """

    def __init__(self, document: str, space: str) -> None:
        self._prefix = f"{document}/{space}"
        self._seen: dict[bytes, int] = {}

    def next_id(self, text: str, context: str = "", *, reading: str = "") -> str:
        """Return the id of the next chunk: 32 hex digits (16 bytes).

        `reading`: which rules the model's tokeniser reads the text by, if it reads other characters than the
        text has. Vectors of other rules are not taken for those of this chunk.
        """
        embedded = (text, context, reading) if reading else (text, context) if context else (text,)
        key = _digest(*embedded)[:8]
        occurrence = self._seen.get(key, 0)
        self._seen[key] = occurrence + 1
        return _digest(self._prefix, str(occurrence), *embedded)[:CHUNK_ID_BYTES].hex()


def _digest(*parts: str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()
