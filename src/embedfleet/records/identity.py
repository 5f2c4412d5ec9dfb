"""Ids derived from content: the same input, submitted or replayed any number of times, has one id.

Every id is a SHA-256 over length-prefixed parts, so no two different tuples of parts can spell the
same bytes.
"""

from __future__ import annotations

import hashlib

from embedfleet.queue_schemas import CHUNK_ID_BYTES


def document_id(tenant: str, media_id: str) -> str:
    """32 hex digits naming a tenant's document for ever, whatever its content."""
    return _digest(tenant, media_id).hex()[:32]


class ContentHash:
    """64 hex digits of a whole text, independent of where it was cut for `update`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, text: str) -> None:
        self._digest.update(text.encode())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class ChunkIds:
    """Names a document's chunks in order.

    An id is made of document, space, text and how often the same text came before. So a chunk keeps its id
    (and its vector) when other parts of the document change, and two equal paragraphs have two ids.
    """

    def __init__(self, document: str, space: str) -> None:
        self._prefix = f"{document}/{space}"
        self._seen: dict[bytes, int] = {}

    def next_id(self, text: str) -> str:
        """32 hex digits (16 bytes)."""
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
