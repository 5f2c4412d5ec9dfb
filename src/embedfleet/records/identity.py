"""Ids that are derived from content: the same input has the same id, however often it is submitted.

Every id is a SHA-256 of parts with a length before each, so different parts never give the same bytes.
"""

from __future__ import annotations

import hashlib

from embedfleet.queue_schemas import CHUNK_ID_BYTES


def document_id(tenant: str, media_id: str) -> str:
    """32 hex digits that name a tenant's document, whatever its content."""
    return _digest(tenant, media_id).hex()[:32]


class ContentHash:
    """The SHA-256 of a text, in 64 hex digits. It does not depend on where the text is cut for `update`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, text: str) -> None:
        self._digest.update(text.encode())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class ChunkIds:
    """Makes the ids of a document's chunks, which must come in order.

    An id depends on the document, the space, the text, and how often the same text came before. So a chunk
    keeps its id, and its vector, when other parts of the document change; and two equal paragraphs have two
    ids.
    """

    def __init__(self, document: str, space: str) -> None:
        self._prefix = f"{document}/{space}"
        self._seen: dict[bytes, int] = {}

    def next_id(self, text: str) -> str:
        """The id of the next chunk: 32 hex digits (16 bytes)."""
        key = hashlib.sha256(text.encode()).digest()[:8]
        occurrence = self._seen.get(key, 0)
        self._seen[key] = occurrence + 1
        return _digest(self._prefix, str(occurrence), text)[:CHUNK_ID_BYTES].hex()


def _digest(*parts: str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()
