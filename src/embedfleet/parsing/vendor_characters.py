"""Japanese characters that makers added to the standard, such as ①, ㈱ and 髙, in EUC-JP and ISO-2022-JP.

The WHATWG Encoding Standard has them in both encodings; Python has them only in Windows-932. Both encodings
give a character its row and column in one table, so Windows-932 can read what Python's codecs cannot. This
module registers two error handlers for decoders. They add these characters, and treat any other error as
their names say.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

ELSE_RAISE = "embedfleet.vendor_characters_else_raise"
ELSE_REPLACE = "embedfleet.vendor_characters_else_replace"

_Handler = Callable[[UnicodeError], tuple[str | bytes, int]]

_FIRST, _LAST = 0x21, 0x7E  # rows and columns, as ISO-2022-JP writes them; EUC-JP sets the high bit too


def _added_character(error: UnicodeDecodeError) -> str | None:
    pair = error.object[error.start : error.start + 2]
    is_euc = error.encoding == "euc_jp" and all(byte > 0x80 for byte in pair)
    if len(pair) < 2 or not (is_euc or (error.encoding.startswith("iso2022_jp") and pair.isascii())):
        return None
    row, column = (byte & 0x7F for byte in pair)
    if not (_FIRST <= row <= _LAST and _FIRST <= column <= _LAST):
        return None
    try:
        return _windows_932(row, column).decode("cp932")
    except UnicodeDecodeError:
        return None


def _windows_932(row: int, column: int) -> bytes:
    """The bytes that Windows-932 has for a place in the table: it packs two rows under one lead byte."""
    lead = (row - _FIRST) // 2 + 0x81
    lead += 0x40 if lead > 0x9F else 0
    if row % 2:
        return bytes((lead, column + 0x1F + (column >= 0x60)))
    return bytes((lead, column + 0x7E))


def _handler(otherwise: _Handler) -> _Handler:
    def handle(error: UnicodeError) -> tuple[str | bytes, int]:
        if isinstance(error, UnicodeDecodeError) and (char := _added_character(error)) is not None:
            return char, error.start + 2
        return otherwise(error)

    return handle


codecs.register_error(ELSE_RAISE, _handler(codecs.strict_errors))
codecs.register_error(ELSE_REPLACE, _handler(codecs.replace_errors))
