"""What of a text its readers see: characters that show something."""

from __future__ import annotations

import re

INVISIBLE_RANGES = (
    *((0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160)),
    *((0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *((0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0)),
    *((0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""Characters that show nothing though they are not white space, as closed ranges: control characters, the
blank of Braille, and those that Unicode calls default ignorable, such as zero-width spaces and joiners."""

_VISIBLE = re.compile("[^\\s" + "".join(f"{chr(a)}-{chr(b)}" for a, b in INVISIBLE_RANGES) + "]")


def shows_nothing(text: str) -> bool:
    """Whether a reader of the text sees nothing: it is empty, white space, or characters of no width."""
    return _VISIBLE.search(text) is None


def letters_in(text: str) -> int:
    """Return the number of characters that are not blank, as accounts count them."""
    return len("".join(text.split()))
