"""Bytes to text in two passes: find the encoding, then decode; neither holds more than a block.

A byte order mark decides. Otherwise UTF-8 if the file is UTF-8, also if a few bytes of it are broken;
otherwise what `charset-normalizer` makes of a sample. Whatever was guessed, replaced or left out is
said in a warning: no U+FFFD and no mojibake comes silently.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from embedfleet.errors import ParseError
from embedfleet.parsing.extraction import BLOCK_BYTES, Emit
from embedfleet.parsing.signatures import HEAD_BYTES, known_binary

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Tab, line feed, form feed, carriage return and escape (terminal colours in logs) occur in text.
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.01  # compressed data has 10 %, text files with a little junk far below 1 %
_LEAD_BYTES = bytes(range(0xC2, 0xF5))  # one opens each multi-byte character of UTF-8
_MIN_GOOD_PER_BAD = 10  # below, the file is of another encoding rather than broken UTF-8
_SAMPLE_BYTES = 1 << 16
# Labels pages declare, and the superset browsers read instead (WHATWG Encoding Standard).
_SUPERSETS = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a file: a codec's name, whether it fits every byte, a warning if it is a guess."""

    name: str
    exact: bool
    warning: str | None = None


def find_encoding(stream: BinaryIO, *, declared: str | None = None) -> Encoding:
    """The encoding of a text file; `declared` is what the document says of itself and wins over guesses.

    Raises ParseError if it is no text.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return Encoding(name, exact=_first_error(stream, name) is None)
    _refuse_binary(stream, head)
    if declared is not None and _first_error(stream, declared) is None:
        return Encoding(declared, exact=True)
    broken_at = _first_error(stream, "utf-8")
    if broken_at is None:
        return Encoding("utf-8", exact=True)
    if _is_broken_utf8(stream):
        return Encoding("utf-8", exact=False)
    name = _guess(_sample(stream, broken_at))
    warning = f"is not UTF-8: read as {name}, which is a guess; save it as UTF-8 to be sure"
    return Encoding(name, exact=_first_error(stream, name) is None, warning=warning)


def decode(stream: BinaryIO, encoding: Encoding, emit: Emit) -> tuple[str, ...]:
    """Emit the whole file as text, lines ending in LF and without NUL; returns the warnings."""
    errors = "strict" if encoding.exact else "replace"
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder(encoding.name)(errors), translate=True
    )
    replaced = nuls = 0
    for block in _blocks(stream):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as exc:
            raise ParseError("changed while it was read: read it again") from exc
        nuls += text.count("\0")
        replaced += 0 if encoding.exact else text.count("\ufffd")
        emit(text.replace("\0", ""))
    warnings = [encoding.warning] if encoding.warning else []
    if replaced:
        warnings.append(f"{replaced} characters are not {encoding.name} and were replaced by U+FFFD")
    if nuls:
        warnings.append(f"{nuls} NUL characters were left out")
    return tuple(warnings)


def known_codec(label: str) -> str | None:
    """The codec for the encoding a document declares; None if there is none for text."""
    try:
        b"a".decode(label)  # refuses codecs that are not for text, such as base64
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    # A page whose declaration could be read byte by byte cannot be UTF-16, whatever it says.
    return None if name.startswith(("utf-16", "utf-32")) else _SUPERSETS.get(name, name)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The file in blocks, an empty one last."""
    stream.seek(0)
    while block := stream.read(BLOCK_BYTES):
        yield block
    yield b""


def _refuse_binary(stream: BinaryIO, head: bytes) -> None:
    if (kind := known_binary(head)) is not None:
        raise ParseError(f"is not text but {kind}: give it the suffix of its format, or leave it out")
    size = control = 0
    for block in _blocks(stream):
        size += len(block)
        control += len(block) - len(block.translate(None, _CONTROL_BYTES))
    if control > size * _MAX_CONTROL_SHARE:
        raise ParseError(
            f"is not text ({control} of its {size} bytes are control characters): leave it out, "
            "or save it as UTF-8 if it is text"
        )


def _first_error(stream: BinaryIO, name: str) -> int | None:
    """Offset of the first byte the codec cannot read, at most a few bytes late; None if there is none."""
    decoder = codecs.getincrementaldecoder(name)("strict")
    offset = 0
    for block in _blocks(stream):
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as exc:
            return offset + exc.start
        offset += len(block)
    return None


def _is_broken_utf8(stream: BinaryIO) -> bool:
    """Whether far more multi-byte characters are right than wrong."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    leads = bad = 0
    for block in _blocks(stream):
        leads += len(block) - len(block.translate(None, _LEAD_BYTES))
        bad += decoder.decode(block, final=not block).count("\ufffd")
    return leads - bad >= bad * _MIN_GOOD_PER_BAD


def _sample(stream: BinaryIO, around: int) -> bytes:
    """Some text around an offset, from the start of a line."""
    start = max(0, around - _SAMPLE_BYTES // 2)
    stream.seek(start)
    sample = stream.read(_SAMPLE_BYTES)
    return sample[sample.find(b"\n") + 1 :] if start else sample


def _guess(sample: bytes) -> str:
    """The detector's answer, but Windows-1252 where it is as likely.

    For a Western text the detector often prefers another code page that reads the same bytes just as
    well (cp1250 for German); by far the most such files are Windows-1252.
    """
    from charset_normalizer import from_bytes  # costs 40 ms: only for the few files that need it

    matches = list(from_bytes(sample))
    least_chaos = min((match.chaos for match in matches), default=0.0)
    western = (m for m in matches if "cp1252" in (m.encoding, *m.could_be_from_charset))
    if not matches or any(match.chaos <= least_chaos for match in western):
        return "cp1252"
    return matches[0].encoding
