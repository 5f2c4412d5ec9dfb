"""Decodes the fields of a message's head: encoded words (RFC 2047), raw bytes, folded lines."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator

from embedfleet.errors import ParseError
from embedfleet.parsing.charset_labels import known_codec
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.text import whole_text

# Lenient: words stand beside others without blanks, or in quotation marks, and have a language (RFC 2231).
_WORD = re.compile(r"=\?([^?*\s]{1,60})(?:\*[^?\s]{0,20})?\?([bBqQ])\?([^?]*)\?=")
# Of mail alone: the encoding standard of the web knows them no more.
_MAIL_CODECS = {
    "utf-7": "utf-7",
    "unicode-1-1-utf-7": "utf-7",
    "hz-gb-2312": "hz",
    "iso-2022-kr": "iso2022_kr",
}
_LONGEST_FIELD = 100_000  # characters; only a hostile message has more


def field_text(raw: str) -> str:
    """Return the text of a field as people read it: one line. `raw` may have bytes as lone surrogates."""
    raw = raw[:_LONGEST_FIELD]
    text = "".join(_pieces(raw)) if "=?" in raw else _of_bytes(raw)
    return " ".join(text.replace("\0", "").split())


def decoded(data: bytes, label: str | None, draft: Draft) -> str:
    """Return the text of a part whose head says that its encoding is `label`.

    Valid UTF-8 is UTF-8, whatever 8-bit encoding the label names: text in another one is hardly ever that by
    chance. Raises ParseError if the part is no text.
    """
    name = (label or "").strip().lower()
    if name in _MAIL_CODECS:
        text = data.decode(_MAIL_CODECS[name], "replace")
        return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    declared = known_codec(name) if name else None
    if declared is not None and not data.isascii() and _is_utf8(data) and not _is_multibyte(declared):
        declared = "utf-8"
    return whole_text(io.BytesIO(data), draft, declared=declared)


def _pieces(raw: str) -> Iterator[str]:
    """The text in pieces. Neighbouring words of one encoding are decoded together, since some programs cut
    characters in two."""
    pending, label = b"", ""
    end = 0
    for match in _WORD.finditer(raw):
        between = raw[end : match.start()]
        if pending and (match[1].lower() != label or between.strip()):
            yield _decoded_word(pending, label)
            pending = b""
        if between.strip() or (not end and between):
            yield _of_bytes(between)
        label = match[1].lower()
        pending += _word_bytes(match[2].lower(), match[3])
        end = match.end()
    if pending:
        yield _decoded_word(pending, label)
    yield _of_bytes(raw[end:])


def _word_bytes(kind: str, written: str) -> bytes:
    data = written.encode("utf-8", "surrogateescape")
    if kind == "q":
        return binascii.a2b_qp(data, header=True)
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return data


def _decoded_word(data: bytes, label: str) -> str:
    try:
        return decoded(data, label, Draft(lambda _: None)) if data else ""
    except ParseError:
        return data.decode("utf-8", "replace")


def _of_bytes(raw: str) -> str:
    """Text in which the parser of messages has left bytes as lone surrogates."""
    try:
        data = raw.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return raw.encode("utf-8", "replace").decode()
    return raw if data.isascii() else _decoded_word(data, "")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_multibyte(codec: str) -> bool:
    """Whether one byte above ASCII is only a part of a character in this encoding."""
    try:
        return len(bytes(range(0xA1, 0xFF)).decode(codec, "ignore")) < 0xFF - 0xA1 - 40
    except LookupError:
        return False
