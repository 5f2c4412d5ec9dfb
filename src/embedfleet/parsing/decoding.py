"""Decodes bytes in two passes: the first finds the encoding, the second decodes. Each holds one block in
memory.

A byte order mark decides the encoding. Without one, the encoding that the document declares is taken if it
fits every byte, then UTF-8, also if a few bytes are broken, and last what `charset-normalizer` guesses from a
sample. Everything that is guessed, replaced or left out is noted in the account, so U+FFFD and mojibake
never come unsaid.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from embedfleet.account import AccountKeeper, Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import BLOCK_BYTES, Emit
from embedfleet.parsing.signatures import HEAD_BYTES, known_binary

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Text does have tab, line feed, form feed, carriage return, and escape (terminal colours in logs).
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.01  # compressed data has 10 %, a text file with a few damaged bytes far below 1 %
_LEAD_BYTES = bytes(range(0xC2, 0xF5))  # each multi-byte character of UTF-8 begins with one of these
_MIN_GOOD_PER_BAD = 10  # with fewer, the file has another encoding and is not broken UTF-8
_SAMPLE_BYTES = 1 << 16
# Encodings that pages declare, and the superset of each that browsers use (WHATWG Encoding Standard).
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
    """How to decode a file: the codec's name, whether it fits every byte, and whether it is a guess."""

    name: str
    exact: bool
    is_guess: bool = False


def find_encoding(stream: BinaryIO, *, declared: str | None = None) -> Encoding:
    """Find the encoding of a text file. `declared`: the encoding that the document itself declares.

    Raises ParseError if the file is not text.
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
    return Encoding(name, exact=_first_error(stream, name) is None, is_guess=True)


def decode(stream: BinaryIO, encoding: Encoding, emit: Emit, account: AccountKeeper) -> None:
    """Emit the whole file as text without NUL, with LF as the end of lines."""
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
    if encoding.is_guess:
        account.note(Code.ENCODING_GUESSED, place=f"read as {encoding.name}")
    account.note(Code.CHARACTERS_REPLACED, count=replaced, chars=replaced, place=f"not {encoding.name}")
    account.note(Code.NUL_CHARACTERS, count=nuls)


def known_codec(label: str) -> str | None:
    """The codec for the encoding that a document declares; None if Python has no such codec for text."""
    try:
        b"a".decode(label)  # refuses codecs that are not for text, such as base64
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    # A page cannot be UTF-16 or UTF-32 if its declaration is readable as ASCII, even if it declares that.
    return None if name.startswith(("utf-16", "utf-32")) else _SUPERSETS.get(name, name)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The file in blocks; the last one is empty."""
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
    """The offset of the first byte that the codec cannot decode, or slightly more; None: it decodes all."""
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
    """Whether the file has far more valid than invalid multi-byte characters."""
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
    """The encoding that the detector finds; Windows-1252 if that is equally likely.

    For a Western text the detector often prefers another code page that decodes the same bytes as well
    (cp1250 for German). By far most of such files are Windows-1252.
    """
    from charset_normalizer import from_bytes  # takes 40 ms, and few files need it

    matches = list(from_bytes(sample))
    least_chaos = min((match.chaos for match in matches), default=0.0)
    western = (m for m in matches if "cp1252" in (m.encoding, *m.could_be_from_charset))
    if not matches or any(match.chaos <= least_chaos for match in western):
        return "cp1252"
    return matches[0].encoding
