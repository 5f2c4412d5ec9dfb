"""Decodes bytes in two passes: the first finds the encoding, the second decodes. Each holds one block in
memory.

A byte order mark decides the encoding. Without one, text that is valid UTF-8 is UTF-8, then the encoding that
the document declares is taken if it fits, then UTF-8 with a few broken bytes, and last what two detectors
make of those lines that are not ASCII. UTF-16 and UTF-32 without a mark are recognised by their characters.
A guess that may be wrong, and what is replaced or left out, is noted in the account, so U+FFFD and mojibake
never come unsaid.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from embedfleet.account import AccountKeeper
from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing import vendor_characters
from embedfleet.parsing.alphabets import share_of_unlikely_letters
from embedfleet.parsing.charset_labels import PRESCAN_BYTES, declared_in
from embedfleet.parsing.draft import BLOCK_BYTES, Emit
from embedfleet.parsing.samples import foreign_lines, lines_with_escapes
from embedfleet.parsing.signatures import known_binary
from embedfleet.parsing.wide_encodings import seven_bit_encoding, wide_encoding

if TYPE_CHECKING:
    from embedfleet.parsing.encoding_guess import Guess

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
# From six characters on, no legacy text is all common characters by accident. Some lines of Japanese in
# UTF-16 have no byte that is a control character.
_MIN_WIDE_BYTES = 12
_LEAD_BYTES = bytes(range(0xC2, 0xF5))  # each multi-byte character of UTF-8 begins with one of these
# Valid characters for each invalid byte of UTF-8 that is broken. Legacy texts have one for two at most.
_MIN_GOOD_PER_BAD = 3
_MIN_FITTING_PER_BAD = 10  # the same for the encoding that a document declares
# Pairs of bytes may by accident be UTF-8. Four of them in a row, and no other, are none.
_PAIRS = frozenset({"cp932", "euc_jp", "gb18030", "big5hkscs", "cp949"})
_MIN_UTF8_CHARACTERS = 4
_KOREAN = b"\x1b$)C"  # ISO-2022-KR has it once, and control characters in each line
_SEVEN_BIT = ("iso2022", "hz", "utf-7")
_DEFAULT = "cp1252"  # what pages declare by default, in whatever they are written; it fits nearly all bytes
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_MAX_UNLIKELY = 0.3  # Russian that is read as cp1252 has more than half of its letters in unlikely places


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a file: the codec's name, and whether it fits every byte.

    `is_guess`: nothing in the file tells, but its text. `doubt`: why the guess may be wrong; empty if it is
    hardly so.
    """

    name: str
    exact: bool
    is_guess: bool = False
    doubt: str = ""


def find_encoding(stream: BinaryIO, *, declared: str | None = None) -> Encoding:
    """Find the encoding of a text file. `declared`: the codec that something outside of the file declares,
    such as the header of a mail; if None, what the file itself declares.

    Raises ParseError if the file is not text.
    """
    stream.seek(0)
    head = stream.read(PRESCAN_BYTES)
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return Encoding(name, exact=_fits(stream, name))
    if _KOREAN in head and (korean := _seven_bit(stream, None)) is not None:
        return korean
    if (wide := _wide_encoding(head)) is not None:
        return Encoding(wide, exact=_fits(stream, wide), is_guess=True)
    _refuse_binary(stream, head)
    declared = declared or declared_in(head)
    if _fits(stream, "utf-8"):
        return _seven_bit(stream, declared) or _pairs(stream, declared) or Encoding("utf-8", exact=True)
    if declared is not None and _fits(stream, declared):
        return _belied(stream, declared) or Encoding(declared, exact=True)
    if _is_broken_utf8(stream):
        return Encoding("utf-8", exact=False)
    if declared is not None and _nearly_fits(stream, declared):
        return Encoding(declared, exact=False)
    if len(head) >= _MIN_WIDE_BYTES and (wide := wide_encoding(head)) is not None:
        return Encoding(wide, exact=_fits(stream, wide), is_guess=True)
    guess = _guess(foreign_lines(_blocks(stream)))
    return _guessed(stream, guess, "" if guess.is_sure else f"read as {guess.codecs[0]}")


def decode(stream: BinaryIO, encoding: Encoding, emit: Emit, account: AccountKeeper) -> None:
    """Emit the whole file as text without NUL, with LF as the end of lines."""
    errors = vendor_characters.ELSE_RAISE if encoding.exact else vendor_characters.ELSE_REPLACE
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
    if encoding.doubt:
        account.note(Code.ENCODING_GUESSED, place=encoding.doubt)
    elif encoding.is_guess:
        account.found(f"texts in {encoding.name}")
    account.note(Code.CHARACTERS_REPLACED, count=replaced, chars=replaced, place=f"not {encoding.name}")
    account.note(Code.NUL_CHARACTERS, count=nuls)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The file in blocks; the last one is empty."""
    stream.seek(0)
    while block := stream.read(BLOCK_BYTES):
        yield block
    yield b""


def _wide_encoding(head: bytes) -> str | None:
    """The form of UTF-16 or UTF-32 of a file; None if no byte of its first ones would be a control character.

    So a file that may be plain text is never taken for anything else.
    """
    has_control = len(head) > len(head.translate(None, _CONTROL_BYTES))
    return wide_encoding(head) if has_control else None


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


def _fits(stream: BinaryIO, name: str) -> bool:
    """Whether the codec can decode every byte of the file."""
    decoder = codecs.getincrementaldecoder(name)(vendor_characters.ELSE_RAISE)
    try:
        for block in _blocks(stream):
            decoder.decode(block, final=not block)
    except UnicodeDecodeError:
        return False
    return True


def _is_broken_utf8(stream: BinaryIO) -> bool:
    """Whether the file has far more valid than invalid multi-byte characters. It may end within one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    leads = bad = 0
    for block in _blocks(stream):
        leads += len(block) - len(block.translate(None, _LEAD_BYTES))
        bad += decoder.decode(block).count("\ufffd")
    is_cut, _ = decoder.getstate()
    good = leads - bad - bool(is_cut)
    return good > 0 and good >= bad * _MIN_GOOD_PER_BAD


def _nearly_fits(stream: BinaryIO, name: str) -> bool:
    """Whether the codec decodes far more of the characters outside of ASCII than it does not."""
    decoder = codecs.getincrementaldecoder(name)(vendor_characters.ELSE_REPLACE)
    foreign = bad = 0
    for block in _blocks(stream):
        text = decoder.decode(block, final=not block)
        foreign += sum(map(len, _FOREIGN.findall(text)))
        bad += text.count("\ufffd")
    return foreign - bad >= bad * _MIN_FITTING_PER_BAD


def _seven_bit(stream: BinaryIO, declared: str | None) -> Encoding | None:
    """The encoding of East Asia, or the declared one, that the file is in though all its bytes are ASCII."""
    if declared is not None and declared.startswith(_SEVEN_BIT) and _fits(stream, declared):
        return Encoding(declared, exact=True)
    lines = lines_with_escapes(_blocks(stream))
    name = seven_bit_encoding(lines) if lines else None
    return Encoding(name, exact=_fits(stream, name), is_guess=True) if name else None


def _pairs(stream: BinaryIO, declared: str | None) -> Encoding | None:
    """The declared encoding, if its characters have two bytes and a few of them may be UTF-8 by accident."""
    if declared not in _PAIRS or not _fits(stream, declared):
        return None
    pairs = sum(len(block) - len(block.translate(None, _LEAD_BYTES)) for block in _blocks(stream))
    return Encoding(declared, exact=True) if 0 < pairs < _MIN_UTF8_CHARACTERS else None


def _belied(stream: BinaryIO, declared: str) -> Encoding | None:
    """The encoding that the text is surely in, if the declared one is a mere default and gives no words."""
    if declared != _DEFAULT:
        return None
    sample = foreign_lines(_blocks(stream))
    if share_of_unlikely_letters(sample.decode(declared, "replace")) < _MAX_UNLIKELY:
        return None
    guess = _guess(sample)
    if not guess.is_sure or declared in guess.codecs:
        return None
    return _guessed(stream, guess, f"declared as {declared}, read as {guess.codecs[0]}")


def _guess(sample: bytes) -> Guess:
    from embedfleet.parsing.encoding_guess import guess_encoding  # takes 90 ms, and few files need it

    return guess_encoding(sample)


def _guessed(stream: BinaryIO, guess: Guess, doubt: str) -> Encoding:
    """The encoding that was guessed from a sample, or one that reads the sample alike and fits every byte."""
    fitting = next((name for name in guess.codecs if _fits(stream, name)), None)
    if doubt and guess.runner_up:
        doubt += f", or else {guess.runner_up}"
    return Encoding(fitting or guess.codecs[0], exact=fitting is not None, is_guess=True, doubt=doubt)
