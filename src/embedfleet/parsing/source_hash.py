"""The hash of a file's bytes, by which an unchanged file is recognised."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from embedfleet.parsing.draft import BLOCK_BYTES
from embedfleet.parsing.formats import PARSER_VERSION

# A new version of the parser may read other text from the same bytes. So it must find every file changed.
_OF_NOTHING = hashlib.sha256(f"parser {PARSER_VERSION}\n".encode())


def source_hash_of(stream: BinaryIO, *, ocr: bool = False) -> str:
    """Return the SHA-256 of how files are read and the rest of the stream. Reads it block by block.

    `ocr`: pages are read by OCR, which gives other text.
    """
    digest = _OF_NOTHING.copy()
    if ocr:
        digest.update(b"ocr\n")
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
