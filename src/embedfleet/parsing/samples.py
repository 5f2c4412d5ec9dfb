"""Takes a sample from a file: the lines that say something about its encoding, wherever they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SAMPLE_BYTES = 1 << 16  # both detectors together take 25 ms for them
_MAX_BYTES_OF_BLOCK = _SAMPLE_BYTES // 8  # so that what comes later in the file is in the sample, too
_MAX_LINE_BYTES = 1 << 12
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_ESCAPES = (b"\x1b$", b"\x1b(I", b"~{")
_ESCAPE = re.compile(b"|".join(map(re.escape, _ESCAPES)))


def foreign_lines(blocks: Iterator[bytes]) -> bytes:
    """Return lines that are not ASCII, 64 KiB at most. Their end may be within a character."""
    return _lines_with(_NOT_ASCII, blocks)


def lines_with_escapes(blocks: Iterator[bytes]) -> bytes:
    """Return lines that may switch to the characters of another language, 64 KiB at most."""
    return _lines_with(_ESCAPE, (block if _has_escape(block) else b"" for block in blocks))


def _has_escape(block: bytes) -> bool:
    """Whether the expression would find one. Most files have none, and a search for one byte costs least."""
    return any(escape[:1] in block and escape in block for escape in _ESCAPES)


def _lines_with(sign: re.Pattern[bytes], blocks: Iterator[bytes]) -> bytes:
    sample = bytearray()
    for number, block in enumerate(blocks):
        # A later block may begin within a character, but the next line does not.
        at = block.find(b"\n") + 1 if number else 0
        end_of_share = len(sample) + _MAX_BYTES_OF_BLOCK
        while len(sample) < end_of_share and (found := sign.search(block, at)) is not None:
            start = max(block.rfind(b"\n", at, found.start()) + 1, at, found.start() - _MAX_LINE_BYTES)
            end = block.find(b"\n", found.end(), start + _MAX_LINE_BYTES) + 1
            at = end or max(found.end(), start + _MAX_LINE_BYTES)
            sample += block[start:at]
        if len(sample) >= _SAMPLE_BYTES:
            break
    return bytes(sample[:_SAMPLE_BYTES])
